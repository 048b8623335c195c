// The small HTTP server behind admin, metrics and readiness ports: exact paths, fixed limits, no framework.
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

// An import would read every export of the module, WebSocket included, and so load Node's web client: 2 MB.
const { createServer } = process.getBuiltinModule("node:http");

/** A client that has not sent its headers by then is cut. */
const HEADERS_TIMEOUT_MS = 2_000;
const MAX_HEADER_BYTES = 8 * 1024;
/** Loopback and scrapers only: far more than any operator needs. */
const MAX_CONNECTIONS = 256;

export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage["headers"];
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
}

export interface HttpReply {
  readonly status?: number;
  /** `text/plain; charset=utf-8` unless given. */
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** An iterable is streamed with back-pressure and ends when the client leaves. */
  readonly body: string | Uint8Array | AsyncIterable<string>;
}

export interface Route {
  /** Absent: any method. */
  readonly methods?: readonly string[];
  /** Body of the 405 answer. */
  readonly usage?: string;
  handle(request: HttpRequest): HttpReply | Promise<HttpReply>;
}

export type Routes = ReadonlyMap<string, Route>;

export interface HttpListen {
  readonly host: string;
  readonly port: number;
  /** For `::`: also take IPv4. Node's default is yes. */
  readonly ipv6Only?: boolean;
}

/** One route table on one or more addresses. Owns its sockets. */
export class HttpServer implements AsyncDisposable {
  readonly #servers: readonly Server[];

  private constructor(servers: readonly Server[]) {
    this.#servers = servers;
  }

  /** @throws when an address cannot be bound; those already bound are closed */
  static async listen(
    addresses: readonly HttpListen[],
    routes: Routes,
    onError: (error: unknown, path: string) => void = () => {},
  ): Promise<HttpServer> {
    const servers: Server[] = [];
    try {
      for (const address of addresses) servers.push(await listenOne(address, routes, onError));
    } catch (error) {
      await Promise.all(servers.map(close));
      throw error;
    }
    return new HttpServer(servers);
  }

  /** The port of the first address; useful when 0 was asked for. */
  get port(): number {
    const address = this.#servers[0]?.address() as AddressInfo | null | undefined;
    return address?.port ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map(close));
  }
}

function listenOne(
  address: HttpListen,
  routes: Routes,
  onError: (error: unknown, path: string) => void,
): Promise<Server> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: 10_000,
      connectionsCheckingInterval: 500,
      keepAliveTimeout: 5_000,
    },
    (request, response) => {
      serve(routes, request, response).catch((error: unknown) => {
        onError(error, request.url ?? "");
        if (response.headersSent) response.destroy();
        else reply(response, 500, { body: `${describe(error)}\n` }, request.method === "HEAD");
      });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(
      { host: address.host, port: address.port, ipv6Only: address.ipv6Only ?? false },
      () => {
        server.off("error", reject);
        resolve(server);
      },
    );
  });
}

async function serve(
  routes: Routes,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  request.resume(); // bodies carry nothing here
  const url = URL.parse(request.url ?? "/", "http://localhost");
  const head = request.method === "HEAD";
  if (url === null) return reply(response, 400, { body: "Bad request target\n" }, head);
  const route = routes.get(url.pathname);
  if (route === undefined) return reply(response, 404, { body: "Not Found\n" }, head);
  const method = request.method ?? "GET";
  if (route.methods !== undefined && !route.methods.includes(method)) {
    const allow = { allow: route.methods.join(", ") };
    const body = route.usage ?? "Invalid HTTP method\n";
    return reply(response, 405, { body, headers: allow }, head);
  }
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const answer = await route.handle({ method, url, headers: request.headers, signal: gone.signal });
  if (typeof answer.body === "string" || answer.body instanceof Uint8Array)
    return reply(response, answer.status ?? 200, answer, head);
  response.writeHead(answer.status ?? 200, headersOf(answer));
  response.flushHeaders();
  for await (const chunk of answer.body) {
    if (gone.signal.aborted) break;
    if (!response.write(chunk)) await drained(response, gone.signal);
  }
  response.end();
}

function reply(response: ServerResponse, status: number, answer: HttpReply, head: boolean): void {
  const body = answer.body as string | Uint8Array;
  response.writeHead(status, {
    ...headersOf(answer),
    "content-length": String(Buffer.byteLength(body)),
  });
  response.end(head ? undefined : body);
}

function headersOf(answer: HttpReply): Record<string, string> {
  return { "content-type": answer.type ?? "text/plain; charset=utf-8", ...answer.headers };
}

function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    response.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
