// One API server as seen with one set of credentials: requests, streams and upgrades over Node's own
// HTTP, with the retries an API client owes its server.
import { createHash, randomBytes } from "node:crypto";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import type { Duplex } from "node:stream";
import { systemClock } from "#lib/base/clock.ts";
import { KubeError } from "../errors.ts";
import { Agents, KEEPALIVE_MS } from "./agents.ts";
import type { Credentials, Endpoint } from "./credentials.ts";
import { Deadline } from "./deadline.ts";
import { describe, refusalError, retryAfterMs, type Subject } from "./status-error.ts";
import { Turns } from "./turns.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface ApiRequest {
  readonly method: Method;
  /** Begins with `/`; already escaped. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Of the body. Default `application/json`. */
  readonly contentType?: string;
  /** Default `application/json`. */
  readonly accept?: string;
  /** What is done to what, for error messages. */
  readonly subject: Subject;
  /** A POST that may be sent twice. Other methods are: what they ask for is the same the second time. */
  readonly isRepeatable?: boolean;
  readonly signal?: AbortSignal;
  /** For the whole request, its attempts and the wait for a turn included. Default 30 s. */
  readonly deadlineMs?: number;
}

export interface ServerVersion {
  readonly major: string;
  readonly minor: string;
  readonly gitVersion: string;
}

/** A connection that is a WebSocket's from now on. */
export interface Upgraded {
  readonly socket: Duplex;
  /** Bytes that came with the answer. */
  readonly head: Buffer;
  readonly protocol: string;
}

const DEADLINE_MS = 30_000;
/** Requests at once, watches and other streams apart. */
const MAX_REQUESTS = 32;
const MAX_WAITING = 10_000;
/** A list page of 500 large objects; more is a fault of the server. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;
const MAX_ERROR_BYTES = 1024 * 1024;
const MAX_ATTEMPTS = 5;
/** Longest `Retry-After` that is waited for. */
const MAX_PAUSE_MS = 10_000;

export class ApiServer implements Disposable {
  /** `https://host:port`, perhaps with a path. */
  readonly url: string;
  /** The namespace of the kubeconfig's context or of the pod; `default` otherwise. */
  readonly namespace: string;
  /** The kubeconfig's context; `in-cluster` in a pod. */
  readonly context: string;
  readonly #endpoint: Endpoint;
  readonly #userAgent: string;
  readonly #deadlineMs: number;
  readonly #turns = new Turns(MAX_REQUESTS, MAX_WAITING);
  readonly #agents: Agents;

  constructor(endpoint: Endpoint, userAgent: string, deadlineMs = DEADLINE_MS) {
    this.#endpoint = endpoint;
    this.#deadlineMs = deadlineMs;
    this.#userAgent = userAgent;
    this.#agents = new Agents(endpoint);
    this.url = endpoint.url.href.replace(/\/$/, "");
    this.namespace = endpoint.namespace;
    this.context = endpoint.context;
  }

  /** @returns the parsed body. @throws {KubeError} */
  async request(request: ApiRequest): Promise<unknown> {
    const body = await this.text(request);
    try {
      return JSON.parse(body);
    } catch (cause) {
      throw new KubeError(
        "UNAVAILABLE",
        `Cannot ${describe(request.subject)}: the answer is no JSON`,
        { cause },
      );
    }
  }

  /** The body as text. @throws {KubeError} */
  async text(request: ApiRequest): Promise<string> {
    using limit = new Deadline(request.deadlineMs ?? this.#deadlineMs, request.signal);
    try {
      using _turn = await this.#turns.take(limit.signal);
      return await this.#attempt(request, limit.signal, (response) =>
        readText(response, MAX_BODY_BYTES),
      );
    } catch (error) {
      throw this.#explain(error, request, limit);
    }
  }

  /**
   * Resolves with a successful response, whose body the caller reads and destroys; `signal` destroys it
   * too. `deadlineMs` counts until the response begins.
   * @throws {KubeError}
   */
  async stream(request: ApiRequest): Promise<IncomingMessage> {
    using limit = new Deadline(request.deadlineMs ?? this.#deadlineMs, request.signal);
    try {
      const response = await this.#attempt(request, limit.signal, (r) => Promise.resolve(r));
      response.socket.setKeepAlive(true, KEEPALIVE_MS);
      const { signal } = request;
      const stop = (): void => void response.destroy();
      signal?.addEventListener("abort", stop, { once: true });
      response.once("close", () => signal?.removeEventListener("abort", stop));
      if (signal?.aborted) stop();
      return response;
    } catch (error) {
      throw this.#explain(error, request, limit);
    }
  }

  /** Any path that answers GET with text: `/healthz`, `/metrics`, `/apis`. @throws {KubeError} */
  async raw(path: string, signal?: AbortSignal): Promise<string> {
    const subject = about("get", path);
    return this.text({ method: "GET", path, subject, ...(signal === undefined ? {} : { signal }) });
  }

  async version(signal?: AbortSignal): Promise<ServerVersion> {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- shown, not decided on
    return JSON.parse(await this.raw("/version", signal)) as ServerVersion;
  }

  /**
   * Turns a GET into a WebSocket's byte stream (RFC 6455, section 4.1). The caller owns the socket.
   * @param protocols of which the server picks one
   * @throws {KubeError}
   */
  async upgrade(request: ApiRequest, protocols: readonly string[]): Promise<Upgraded> {
    using limit = new Deadline(request.deadlineMs ?? this.#deadlineMs, request.signal);
    try {
      const credentials = await this.#endpoint.credentials.read(false);
      const key = randomBytes(16).toString("base64");
      const answer = Promise.withResolvers<Upgraded>();
      const sending = this.#start(request, credentials, limit.signal, {
        Accept: "*/*", // a kubelet answers 406 to an upgrade that takes nothing but JSON
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": protocols.join(", "),
      });
      sending.once("upgrade", (response, socket, head) => {
        if (response.headers["sec-websocket-accept"] === acceptOf(key)) {
          const protocol = response.headers["sec-websocket-protocol"] ?? "";
          answer.resolve({ socket, head, protocol });
          return;
        }
        socket.destroy();
        answer.reject(new KubeError("UNAVAILABLE", `${this.url} speaks no WebSocket (RFC 6455)`));
      });
      sending.once("response", (response) => {
        const status = response.statusCode ?? 0;
        readText(response, MAX_ERROR_BYTES)
          .then((body) => answer.reject(refusalError(request.subject, { status, body })))
          .catch(answer.reject);
      });
      sending.on("error", (cause) => answer.reject(this.#unreachable(request, cause)));
      sending.end();
      return await answer.promise;
    } catch (error) {
      throw this.#explain(error, request, limit);
    }
  }

  /** Ends every connection. */
  [Symbol.dispose](): void {
    this.#agents[Symbol.dispose]();
  }

  async #attempt<T>(
    request: ApiRequest,
    signal: AbortSignal,
    take: (response: IncomingMessage) => Promise<T>,
  ): Promise<T> {
    let isRefused = false;
    for (let attempt = 1; ; attempt++) {
      const credentials = await this.#endpoint.credentials.read(isRefused);
      const sent = await this.#send(request, credentials, signal);
      if (sent === "stale-connection") {
        if (attempt < MAX_ATTEMPTS) continue;
        throw new KubeError(
          "UNAVAILABLE",
          `Cannot ${describe(request.subject)}: ${this.url} closes every connection`,
        );
      }
      const status = sent.statusCode ?? 0;
      if (status >= 200 && status < 300) return take(sent);
      const body = await readText(sent, MAX_ERROR_BYTES);
      const error = refusalError(request.subject, { status, body });
      if (status === 401 && !isRefused) {
        isRefused = true;
        continue;
      }
      const pause = status === 429 || status >= 500 ? sent.headers["retry-after"] : undefined;
      const pauseMs = retryAfterMs(pause, Date.now()) ?? -1;
      if (pauseMs < 0 || attempt >= MAX_ATTEMPTS) throw error;
      await systemClock.sleep(Math.min(pauseMs, MAX_PAUSE_MS), signal);
      if (signal.aborted) throw error;
    }
  }

  /** A kept connection that the server has just closed is no fault: the request goes out on a new one. */
  async #send(
    request: ApiRequest,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<IncomingMessage | "stale-connection"> {
    const payload = request.body === undefined ? null : Buffer.from(JSON.stringify(request.body));
    const answer = Promise.withResolvers<IncomingMessage | "stale-connection">();
    const sending = this.#start(
      request,
      credentials,
      signal,
      payload === null
        ? {}
        : {
            "Content-Type": request.contentType ?? "application/json",
            "Content-Length": String(payload.length),
          },
    );
    sending.once("response", answer.resolve);
    sending.on("error", (cause: NodeJS.ErrnoException) => {
      const isRepeatable = request.method !== "POST" || request.isRepeatable === true;
      const isStale = cause.code === "ECONNRESET" || cause.code === "EPIPE";
      if (sending.reusedSocket && isStale && isRepeatable && !signal.aborted)
        answer.resolve("stale-connection");
      else answer.reject(this.#unreachable(request, cause));
    });
    sending.end(payload ?? undefined);
    return answer.promise;
  }

  #start(
    request: ApiRequest,
    credentials: Credentials,
    signal: AbortSignal,
    headers: Readonly<Record<string, string>>,
  ): http.ClientRequest {
    const url = this.#target(request);
    return (url.protocol === "http:" ? http : https).request(url, {
      method: request.method,
      headers: {
        Accept: request.accept ?? "application/json",
        "User-Agent": this.#userAgent,
        ...credentials.headers,
        ...headers,
      },
      agent: this.#agents.for(credentials),
      signal,
    });
  }

  #unreachable(request: ApiRequest, cause: NodeJS.ErrnoException): KubeError {
    return new KubeError(
      "UNAVAILABLE",
      `Cannot ${describe(request.subject)}: no connection to ${this.url} (${cause.code ?? cause.message})`,
      { cause },
    );
  }

  #target(request: ApiRequest): URL {
    const url = new URL(this.url + request.path);
    for (const [name, value] of Object.entries(request.query ?? {}))
      for (const one of Array.isArray(value) ? value : [value])
        if (typeof one === "string") url.searchParams.append(name, one);
    return url;
  }

  #explain(error: unknown, request: ApiRequest, limit: Deadline): unknown {
    if (limit.hasExpired)
      return new KubeError(
        "TIMEOUT",
        `Cannot ${describe(request.subject)}: no answer from ${this.url} within ${request.deadlineMs ?? this.#deadlineMs} ms`,
        { cause: error },
      );
    return request.signal?.aborted ? request.signal.reason : error;
  }
}

/** The subject of a request that is about no object. */
export function about(verb: string, what: string): Subject {
  return { verb, kind: what, group: "", resource: what, namespace: null, name: null };
}

/** RFC 6455, section 4.2.2. */
function acceptOf(key: string): string {
  return createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
}

async function readText(response: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes)
        throw new KubeError("UNAVAILABLE", `The API server's answer exceeds ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof KubeError) throw cause;
    throw new KubeError("UNAVAILABLE", "The API server's answer broke off", { cause });
  }
  return Buffer.concat(chunks).toString("utf8");
}
