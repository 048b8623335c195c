// Port 15014: readiness, version and metrics for everybody, mesh contents for this machine only.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIP, type AddressInfo } from "node:net";
import { isLoopback, tryParseIp, tryParseSocketAddr } from "#lib/net/ip.ts";
import type { Logger } from "#lib/obs/log.ts";
import { IstiodError } from "../errors.ts";

export interface DebugReply {
  readonly status?: number;
  readonly type?: string;
  readonly body: string | Buffer;
}

export interface DebugPages {
  /** Answered to anybody: must not show what is in the mesh. */
  readonly open: Readonly<Record<string, () => DebugReply | Promise<DebugReply>>>;
  /** Answered to loopback only. */
  readonly local: Readonly<Record<string, () => DebugReply | Promise<DebugReply>>>;
}

const MAX_CONNECTIONS = 128;
const TIMEOUT_MS = 10_000;

/** Owns one listener. lib/obs has a server too, but its handlers do not see who is asking. */
export class DebugServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #pages: DebugPages;
  readonly #log: Logger;

  constructor(pages: DebugPages, log: Logger) {
    this.#pages = pages;
    this.#log = log;
    this.#server = createServer(
      { maxHeaderSize: 8192, headersTimeout: 5_000, requestTimeout: TIMEOUT_MS },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** @returns the port. @throws {IstiodError} `LISTEN` */
  async listen(address: string): Promise<number> {
    const parsed = tryParseSocketAddr(address);
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause) =>
        reject(new IstiodError("LISTEN", `Cannot listen on ${address}`, { cause })),
      );
      this.#server.listen({ host: parsed?.ip ?? "", port: parsed?.port ?? 0 }, () => {
        const bound = this.#server.address() as AddressInfo;
        resolve(bound.port);
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    try {
      send(request, response, await this.#answer(request));
    } catch (error) {
      this.#log.error({ error, path: request.url }, "debug page failed");
      send(request, response, { status: 500, body: "Internal error\n" });
    }
  }

  async #answer(request: IncomingMessage): Promise<DebugReply> {
    if (request.method !== "GET" && request.method !== "HEAD")
      return { status: 405, body: "Only GET and HEAD\n" };
    const path = URL.parse(request.url ?? "/", "http://localhost")?.pathname ?? "/";
    const open = Object.hasOwn(this.#pages.open, path) ? this.#pages.open[path] : undefined;
    if (open !== undefined) return open();
    const local = Object.hasOwn(this.#pages.local, path) ? this.#pages.local[path] : undefined;
    if (local === undefined) return { status: 404, body: "Not found\n" };
    if (!isFromHere(request))
      return { status: 401, body: "Debug pages are answered on the loopback address only\n" };
    return local();
  }
}

/**
 * A loopback peer, asking for an address or localhost: a web page that made a browser here resolve its
 * own name to 127.0.0.1 has its name in the Host header.
 */
function isFromHere(request: IncomingMessage): boolean {
  const ip = tryParseIp(request.socket.remoteAddress ?? "");
  if (ip === null || !isLoopback(ip)) return false;
  const host = (request.headers.host ?? "").replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  return host === "localhost" || isIP(host) !== 0;
}

function send(request: IncomingMessage, response: ServerResponse, reply: DebugReply): void {
  response.writeHead(reply.status ?? 200, {
    "content-type": reply.type ?? "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(reply.body),
    "x-content-type-options": "nosniff",
  });
  response.end(request.method === "HEAD" ? undefined : reply.body);
}
