// What operators and kubelet ask the agent: health, metrics, and on loopback the state of every pod.
import { HttpServer, type HttpReply, type Route } from "#lib/obs/http-server.ts";
import type { Readiness } from "#lib/obs/readiness.ts";
import type { AgentConfig } from "./config.ts";
import type { AgentMetrics } from "./metrics.ts";

export interface OperatorServers extends AsyncDisposable {
  readonly ports: { readonly health: number; readonly monitoring: number | null };
}

export async function openOperatorServers(o: {
  readonly config: AgentConfig;
  readonly readiness: Readiness;
  readonly metrics: AgentMetrics;
  readonly status: () => unknown;
}): Promise<OperatorServers> {
  await using undo = new AsyncDisposableStack();
  const { healthPort, monitoringPort, debugPort } = o.config;
  const health = undo.use(
    await listen(
      healthPort,
      routes({
        "/healthz": () => ({ body: "ok\n" }),
        "/readyz": () => {
          const pending = o.readiness.pending();
          return pending.length === 0
            ? { body: "ready\n" }
            : { status: 503, body: `waiting for ${pending.join(", ")}\n` };
        },
      }),
    ),
  );
  const scrape = async (): Promise<HttpReply> => ({
    type: o.metrics.registry.contentType,
    body: await o.metrics.registry.metrics(),
  });
  const monitoring =
    monitoringPort === null
      ? null
      : undo.use(await listen(monitoringPort, routes({ "/metrics": scrape })));
  if (debugPort !== null)
    undo.use(
      await HttpServer.listen(
        [{ host: "127.0.0.1", port: debugPort }],
        routes({
          "/debug/pods": () => ({
            type: "application/json",
            body: `${JSON.stringify(o.status(), null, 2)}\n`,
          }),
        }),
      ),
    );
  const owned = undo.move();
  return {
    ports: { health: health.port, monitoring: monitoring?.port ?? null },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Both families: kubelet probes the pod's first address, whichever it is. */
async function listen(port: number, table: ReadonlyMap<string, Route>): Promise<HttpServer> {
  try {
    return await HttpServer.listen([{ host: "::", port }], table);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EAFNOSUPPORT" && code !== "EADDRNOTAVAIL") throw error; // IPv6 is off here
    return HttpServer.listen([{ host: "0.0.0.0", port }], table);
  }
}

function routes(
  table: Readonly<Record<string, () => HttpReply | Promise<HttpReply>>>,
): ReadonlyMap<string, Route> {
  return new Map(
    Object.entries(table).map(([path, handle]) => [path, { methods: ["GET", "HEAD"], handle }]),
  );
}
