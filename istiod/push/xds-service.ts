// Accepts delta xDS streams: who is calling, what it claims to be, and the life of its connection.
import { GrpcError, grpcError } from "#lib/grpc/errors.ts";
import { endWith } from "#lib/grpc/server.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { DeltaDiscoveryRequest } from "#lib/wire/gen/discovery.gen.ts";
import type { AuthenticatedCaller, Authenticator } from "../authenticate.ts";
import type { Metrics } from "../metrics.ts";
import { XdsConnection, type ConnectionStatus, type DeltaStream } from "./connection.ts";
import { mayActAs, parseNode, type ProxyNode } from "./node.ts";
import type { PushState } from "./push-state.ts";

export interface XdsServiceOptions {
  readonly authenticator: Authenticator;
  readonly state: PushState;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly version: string;
  /** More are refused with `RESOURCE_EXHAUSTED`. Default 10 000. */
  readonly maxConnections?: number;
  /** A stream without a first request is closed after this. Default 30 s. */
  readonly firstRequestMs?: number;
}

const MAX_CONNECTIONS = 10_000;
const FIRST_REQUEST_MS = 30_000;

export class XdsService {
  readonly #options: XdsServiceOptions;
  readonly #connections = new Set<XdsConnection>();
  /** Streams that have not said who they are yet count too: they hold a socket. */
  #streams = 0;
  #count = 0;

  constructor(options: XdsServiceOptions) {
    this.#options = options;
  }

  get connections(): Iterable<XdsConnection> {
    return this.#connections;
  }

  get size(): number {
    return this.#connections.size;
  }

  status(): ConnectionStatus[] {
    return [...this.#connections].map((connection) => connection.status());
  }

  /** Ends every stream with OK. */
  endAll(): void {
    for (const connection of this.#connections) connection.end();
  }

  /** Takes the stream: it is ended here in every case. */
  handle(stream: DeltaStream): void {
    const life = new AbortController();
    const over = (): void => life.abort();
    stream.on("cancelled", over);
    stream.on("close", over);
    stream.on("error", over);
    stream.on("end", () => stream.end());
    void this.#serve(stream, life.signal);
  }

  async #serve(stream: DeltaStream, signal: AbortSignal): Promise<void> {
    this.#streams++;
    signal.addEventListener("abort", () => this.#streams--, { once: true });
    try {
      if (this.#streams > (this.#options.maxConnections ?? MAX_CONNECTIONS))
        throw new GrpcError("RESOURCE_EXHAUSTED", "too many connections");
      const peer = stream.getPeer();
      const caller = await this.#options.authenticator.authenticate(stream.metadata, peer);
      if (!signal.aborted) this.#awaitFirst(stream, signal, caller, peer);
    } catch (error) {
      if (!(error instanceof GrpcError)) {
        this.#options.metrics.internalErrors.inc();
        this.#options.log.error({ error }, "cannot accept xds stream");
      }
      endWith(stream, error instanceof GrpcError ? error : grpcError(error));
    }
  }

  /** Reading starts only now: nothing of an unknown caller is parsed. */
  #awaitFirst(
    stream: DeltaStream,
    signal: AbortSignal,
    caller: AuthenticatedCaller,
    peer: string,
  ): void {
    const timer = setTimeout(() => {
      endWith(stream, new GrpcError("DEADLINE_EXCEEDED", "no request"));
    }, this.#options.firstRequestMs ?? FIRST_REQUEST_MS);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    let connection: XdsConnection | null = null;
    stream.on("data", (request: DeltaDiscoveryRequest) => {
      if (signal.aborted) return;
      try {
        clearTimeout(timer);
        connection ??= this.#open(stream, signal, admit(request, caller), peer);
        connection.receive(request);
      } catch (error) {
        if (!(error instanceof GrpcError)) {
          this.#options.metrics.internalErrors.inc();
          this.#options.log.error({ error, peer }, "cannot answer xds request");
        } else this.#options.log.warn({ peer, reason: error.message }, "xds stream refused");
        endWith(stream, grpcError(error));
      }
    });
  }

  #open(stream: DeltaStream, signal: AbortSignal, node: ProxyNode, peer: string): XdsConnection {
    const { state, metrics, log, version } = this.#options;
    const id = `${node.id}-${++this.#count}`;
    const connection = new XdsConnection({ id, node, peer, stream, state, metrics, log });
    this.#connections.add(connection);
    metrics.xdsClients.set({ version }, this.#connections.size);
    log.info({ node: node.id, peer, clients: this.#connections.size }, "xds client connected");
    signal.addEventListener(
      "abort",
      () => {
        this.#connections.delete(connection);
        connection[Symbol.dispose]();
        metrics.xdsClients.set({ version }, this.#connections.size);
        log.info({ node: node.id, clients: this.#connections.size }, "xds client gone");
      },
      { once: true },
    );
    return connection;
  }
}

/** @throws {GrpcError} for a node that is none, or that the caller's token does not fit */
function admit(request: DeltaDiscoveryRequest, caller: AuthenticatedCaller): ProxyNode {
  const parsed = parseNode(request.node);
  if (!parsed.ok) throw new GrpcError("INVALID_ARGUMENT", parsed.why);
  if (!mayActAs(caller, parsed.node))
    throw new GrpcError(
      "PERMISSION_DENIED",
      `no authorized identity for node ${parsed.node.id} (${caller.namespace}/${caller.serviceAccount})`,
    );
  return parsed.node;
}
