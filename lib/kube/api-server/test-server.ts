// For tests: an HTTP server that answers as the test says, and an `ApiServer` that talks to it.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { ApiServer } from "./api-server.ts";
import type { Credentials } from "./credentials.ts";

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export class TestServer implements AsyncDisposable {
  readonly requests: { readonly method: string; readonly url: URL; readonly token: string }[] = [];
  readonly api: ApiServer;
  readonly server: Server;
  /** The first is used until it is refused, then the next. */
  tokens: string[] = ["good"];

  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, answer: Answer) {
    this.server = server;
    server.on("connection", (socket: Socket) => this.#sockets.add(socket));
    const { port } = server.address() as AddressInfo;
    const url = new URL(`http://127.0.0.1:${port}`);
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      const { method = "", headers } = request;
      this.requests.push({
        method,
        url: new URL(request.url ?? "/", url),
        token: headers.authorization ?? "",
      });
      answer(request, response);
    });
    this.api = new ApiServer(
      {
        url,
        serverName: null,
        isUnverified: false,
        context: "test",
        namespace: "default",
        credentials: { read: (isRefused) => Promise.resolve(this.#credentials(isRefused)) },
      },
      "test",
    );
  }

  static async start(answer: Answer): Promise<TestServer> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new TestServer(server, answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.api[Symbol.dispose]();
    this.server.close();
    this.server.closeAllConnections();
    for (const socket of this.#sockets) socket.destroy(); // upgraded ones too
    await once(this.server, "close");
  }

  #credentials(isRefused: boolean): Credentials {
    if (isRefused && this.tokens.length > 1) this.tokens.shift();
    const headers = { Authorization: `Bearer ${this.tokens[0]}` };
    return { ca: null, cert: null, key: null, headers };
  }
}

export function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

export function status(code: number, reason: string, message: string): object {
  return { kind: "Status", apiVersion: "v1", status: "Failure", reason, message, code };
}
