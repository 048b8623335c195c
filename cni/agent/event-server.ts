// HTTP over unix sockets for the plugin: `pluginevent.sock` takes its events, `log.sock` its log lines.
// ADD is answered only when the pod is in the mesh, or is not to be; anything else is an error and the
// runtime tries again with a new sandbox.
import { chmodSync, mkdirSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import type { Logger } from "#lib/obs/log.ts";
import { bindingPath, placeSocket } from "#lib/sys/socket-path.ts";
import { AgentError, explain, type AgentErrorCode } from "./errors.ts";
import type { AgentMetrics } from "./metrics.ts";
import {
  parseGcRequest,
  parsePluginEvent,
  type GcRequest,
  type PluginEvent,
} from "./plugin-event.ts";

export interface PluginHandler {
  /** Resolves when the pod may start. @throws {AgentError} */
  add(event: PluginEvent): Promise<void>;
  /** What is not as it should be; empty when all is. @throws {AgentError} */
  check(event: PluginEvent): Promise<readonly string[]>;
  collectGarbage(request: GcRequest): void;
  /** What the agent still waits for; empty when it can serve an ADD. */
  pending(): readonly string[];
}

interface Reply {
  readonly status: number;
  readonly body: string;
  /** The pod belongs to the mesh, whatever kept it out: our plugin need not ask the cluster. */
  readonly isOfMesh?: boolean;
}

/** Says so to the plugin. Istio's has no use for it. */
const OF_MESH_HEADER = "ambit-pod-of-mesh";
/** What can only happen to a pod that is to be enrolled. */
const OF_MESH_CODES: ReadonlySet<AgentErrorCode> = new Set([
  "RULES",
  "NO_PROXY",
  "PROXY_REFUSED",
  "PROXY_LOST",
  "ANNOTATION",
]);

const MAX_BODY_BYTES = 1 << 20;
/** A CNI error is read by people, and a datagram holds no more. */
const MAX_REPLY_CHARS = 1000;
/** A plugin that has not sent its event by then has died. */
const REQUEST_TIMEOUT_MS = 5_000;

/** Owns both sockets. */
export class EventServer implements AsyncDisposable {
  readonly #servers: readonly Server[];
  readonly #names: readonly Disposable[];

  private constructor(servers: readonly Server[], names: readonly Disposable[]) {
    this.#servers = servers;
    this.#names = names;
  }

  /** Listens in `runDir`; stale socket files are replaced. */
  static async listen(
    runDir: string,
    handler: PluginHandler,
    log: Logger,
    metrics: AgentMetrics,
  ): Promise<EventServer> {
    mkdirSync(runDir, { recursive: true, mode: 0o750 });
    const events = serve(async (request, body) => {
      const reply = await answer(handler, request, body, log);
      metrics.pluginRequests.inc({ response_code: String(reply.status) });
      return reply;
    });
    const lines = serve((request, body) => Promise.resolve(relay(request, body, log)));
    const name = await listenOn(events, join(runDir, "pluginevent.sock"));
    try {
      return new EventServer(
        [events, lines],
        [name, await listenOn(lines, join(runDir, "log.sock"))],
      );
    } catch (error) {
      name[Symbol.dispose]();
      events.close();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.#names) name[Symbol.dispose]();
    await Promise.all(
      this.#servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            server.closeAllConnections();
          }),
      ),
    );
  }
}

async function answer(
  handler: PluginHandler,
  request: IncomingMessage,
  body: string,
  log: Logger,
): Promise<Reply> {
  try {
    switch (request.url ?? "") {
      case "/cmdadd":
        await handler.add(parsePluginEvent(body, request.headers));
        return { status: 200, body: "" };
      case "/cmdcheck": {
        const faults = await handler.check(parsePluginEvent(body, request.headers));
        return { status: faults.length === 0 ? 200 : 500, body: faults.join("; ") };
      }
      case "/cmdgc":
        handler.collectGarbage(parseGcRequest(body));
        return { status: 200, body: "" };
      case "/status": {
        const pending = handler.pending();
        return { status: pending.length === 0 ? 200 : 503, body: pending.join(", ") };
      }
      default:
        return { status: 404, body: "not found" };
    }
  } catch (error) {
    const isBad = error instanceof AgentError && error.code === "BAD_EVENT";
    if (isBad) log.warn({ path: request.url, reason: explain(error) }, "malformed plugin request");
    if (!(error instanceof AgentError)) log.error({ error }, "the plugin's request failed");
    const isOfMesh = error instanceof AgentError && OF_MESH_CODES.has(error.code);
    return { status: isBad ? 400 : 500, body: explain(error), isOfMesh };
  }
}

/** Puts the plugin's lines into the agent's log: an array of texts, each a JSON object. */
function relay(request: IncomingMessage, body: string, log: Logger): Reply {
  if (request.url !== "/log") return { status: 404, body: "not found" };
  let lines: unknown;
  try {
    lines = JSON.parse(body);
  } catch {
    return { status: 400, body: "not JSON" };
  }
  if (!Array.isArray(lines)) return { status: 400, body: "not a list" };
  const plugin = log.child({ scope: "cni-plugin" });
  for (const line of lines) {
    try {
      const {
        level,
        time: _time,
        msg,
        ...fields
      } = JSON.parse(String(line)) as Record<string, unknown>;
      const known = (["debug", "info", "warn", "error"] as const).find((name) => name === level);
      plugin[known ?? "info"](fields, String(msg));
    } catch {
      plugin.info({ line: String(line).slice(0, MAX_REPLY_CHARS) }, "unreadable line");
    }
  }
  return { status: 200, body: "" };
}

function serve(handle: (request: IncomingMessage, body: string) => Promise<Reply>): Server {
  return createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const end = (reply: Reply): void => finish(response, reply);
    readBody(request)
      .then(async (body) =>
        end(body === null ? { status: 400, body: "too long" } : await handle(request, body)),
      )
      .catch((error: unknown) => end({ status: 500, body: explain(error) }));
  });
}

function finish(response: ServerResponse, { status, body, isOfMesh }: Reply): void {
  if (response.destroyed || response.headersSent) return;
  const text = body.slice(0, MAX_REPLY_CHARS);
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    ...(isOfMesh === true ? { [OF_MESH_HEADER]: "true" } : {}),
  });
  response.end(text);
}

/** `null` for a body beyond the limit. */
async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function listenOn(server: Server, path: string): Promise<Disposable> {
  const bound = bindingPath(path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(bound, () => {
      server.off("error", reject);
      resolve();
    });
  });
  // the directory keeps strangers out; the plugin may run under another user
  chmodSync(bound, 0o666);
  return placeSocket(bound, path);
}
