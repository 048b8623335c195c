// The levels of `zc log --level` as istioctl takes them, and ztunnel's log filter, which is what they become.
import { LEVELS, LogFilter, LogFilterError } from "#lib/obs/log-filter.ts";
import { CliError } from "./errors.ts";

/**
 * `debug`, `access:debug` or a comma-separated mix, as a filter's directives: `access=debug`.
 * @throws {CliError} USAGE
 */
export function parseLogLevels(text: string): string {
  const filter = text
    .split(",")
    .map((entry) => entry.trim().replace(/:(?=[^:]*$)/, "=")) // scopes may hold "::"
    .join(",");
  try {
    LogFilter.parse(filter);
    return filter;
  } catch (error) {
    if (!(error instanceof LogFilterError)) throw error;
    throw new CliError("USAGE", `--level: ${JSON.stringify(text)} names no log level`, [
      `levels: ${LEVELS.join(", ")}; for one scope access:debug, several with commas`,
    ]);
  }
}

/** The filter in a ztunnel's answer to `/logging`. @throws {CliError} BAD_INPUT */
export function parseLoggingAnswer(answer: string): LogFilter {
  const said = /^current log level is (\S+)\s*$/.exec(answer)?.[1];
  if (said !== undefined)
    try {
      return LogFilter.parse(said);
    } catch (error) {
      if (!(error instanceof LogFilterError)) throw error;
    }
  throw new CliError(
    "BAD_INPUT",
    `Not an answer of /logging: ${JSON.stringify(answer.trim().slice(0, 100))}`,
  );
}
