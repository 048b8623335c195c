// Requests to a test API server, without a client library in between.
import { Agent, request as httpsRequest } from "node:https";

/** A busy machine makes two dozen large definitions in ten seconds. */
const TIMEOUT_MS = 30_000;

export interface ApiResponse {
  readonly status: number;
  readonly text: string;
}

export interface ApiRequest {
  readonly method?: "GET" | "POST" | "PATCH" | "DELETE";
  readonly body?: string;
  readonly contentType?: string;
  readonly token?: string;
  /** Without a word from the server. */
  readonly timeoutMs?: number;
}

/** Keeps connections; disposing closes them. */
export class ApiRequester implements Disposable {
  readonly #url: string;
  readonly #token: string;
  readonly #agent: Agent;

  constructor(url: string, ca: string, token: string) {
    this.#url = url;
    this.#token = token;
    this.#agent = new Agent({ ca, keepAlive: true, maxSockets: 8 });
  }

  /** Resolves with whatever the server answers; rejects when there is none in time. */
  send(path: string, options: ApiRequest = {}): Promise<ApiResponse> {
    const { method = "GET", body, contentType = "application/json" } = options;
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        new URL(path, this.#url),
        {
          method,
          agent: this.#agent,
          timeout: options.timeoutMs ?? TIMEOUT_MS,
          headers: {
            authorization: `Bearer ${options.token ?? this.#token}`,
            accept: "application/json",
            ...(body === undefined ? {} : { "content-type": contentType }),
            // Node leaves it out of a DELETE: the body would be taken for the next request
            ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
          },
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (chunk: string) => (text += chunk));
          response.once("end", () => resolve({ status: response.statusCode ?? 0, text }));
          response.once("error", reject);
        },
      );
      request.once("timeout", () => request.destroy(new Error(`No answer to ${method} ${path}`)));
      request.once("error", reject);
      request.end(body);
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}
