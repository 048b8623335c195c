// `POST /logging`: the log filter, shown and changed while the proxy runs, as Istio's ztunnel answers it.
import type { HttpReply, Route } from "./http-server.ts";
import { LogFilter, LogFilterError } from "./log-filter.ts";
import type { LogScopes } from "./log-scopes.ts";

const USAGE = `usage: POST /logging\t\t\t\t\t\t(To list current level)
usage: POST /logging?level=<level>\t\t\t\t(To change global levels)
usage: POST /logging?level={scope1}=<level1>,{scope2}=<level2>\t(To change specific scopes' levels)
usage: POST /logging?reset\t\t\t\t\t(To go back to the levels of the start)
levels: off, error, warn, info, debug, trace
`;

export function loggingRoute(scopes: LogScopes): Route {
  return {
    methods: ["POST"],
    usage: `Invalid HTTP method\n${USAGE}`,
    handle: ({ url }): HttpReply => {
      const { searchParams } = url;
      const unknown = [...searchParams.keys()].find((key) => key !== "level" && key !== "reset");
      if (unknown !== undefined)
        return { status: 400, body: `Unknown parameter ${JSON.stringify(unknown)}\n${USAGE}` };
      const level = searchParams.get("level");
      const base = searchParams.has("reset") ? scopes.initial : scopes.filter;
      try {
        const filter = level === null ? base : LogFilter.parse(level, base);
        if (filter !== scopes.filter) scopes.apply(filter);
      } catch (error) {
        if (!(error instanceof LogFilterError)) throw error;
        return { status: 400, body: `${error.message}\n${USAGE}` };
      }
      return { body: `current log level is ${scopes.filter.toString()}\n` };
    },
  };
}
