// Keeps one delta xDS stream open: connects, applies what arrives, answers, and comes back after a loss.
import { Client, connectivityState, type ClientDuplexStream, type Metadata } from "@grpc/grpc-js";
import { once } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../base/clock.ts";
import { parseServerAddress } from "../grpc/address.ts";
import { callMetadata, type CallIdentity } from "../grpc/call-metadata.ts";
import { channelParts, type ChannelSettings } from "../grpc/channel.ts";
import type { IncomingResource, IncomingResponse } from "../grpc/delta-messages.ts";
import { GrpcError, grpcError } from "../grpc/errors.ts";
import { deltaClientMethod } from "../grpc/services.ts";
import type { Logger } from "../obs/log.ts";
import type { DeltaDiscoveryRequest } from "../wire/gen/discovery.gen.ts";
import { DeltaClientState, type Rejection } from "./delta-client-state.ts";
import { ReconnectPolicy, type StreamEnd, type TerminationReason } from "./reconnect.ts";

export type { Rejection };

/** A resource as handed to `apply`. `bytes` is a view into the message that brought it: copy to keep little. */
export interface ReceivedResource {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

export interface DeltaUpdate {
  readonly resources: readonly ReceivedResource[];
  /** To be removed after the resources were applied; a name in both ends up removed. */
  readonly removed: readonly string[];
  /** False for all but the last piece of a response applied in pieces. */
  readonly isLast: boolean;
}

export interface DeltaType {
  readonly typeUrl: string;
  /** Apply at most this many resources in one turn of the event loop. Default: all. */
  readonly chunkSize?: number;
  /** Applies what it can, and names what it cannot. Called in order, never twice at a time. */
  apply(update: DeltaUpdate): readonly Rejection[] | Promise<readonly Rejection[]>;
}

export interface DeltaClientOptions extends CallIdentity {
  /** `[https://]host:port`. */
  readonly address: string;
  /** Trust anchors as PEM, read for every connection; `null`: the system's. */
  readonly rootCert: () => Promise<Uint8Array | null>;
  readonly altHostname?: string;
  readonly tls?: Pick<ChannelSettings, "minTlsVersion" | "groups">;
  readonly node: { readonly id: string; readonly metadata: Readonly<Record<string, unknown>> };
  /** Subscribed in this order. */
  readonly types: readonly DeltaType[];
  /** The server answered on a new stream. */
  readonly onConnected?: () => void;
  readonly onTerminated?: (reason: TerminationReason) => void;
  /** A response was applied and is about to be answered; `acked` is false for a NACK. */
  readonly onResponse?: (event: ResponseEvent) => void;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface ResponseEvent {
  readonly typeUrl: string;
  readonly acked: boolean;
  readonly resources: number;
  readonly removed: number;
  /** Bytes of the resources, without framing. */
  readonly resourceBytes: number;
}

/** DNS, TCP and TLS together. */
const CONNECT_TIMEOUT_MS = 5_000;

export class DeltaClient {
  readonly #options: DeltaClientOptions;
  readonly #state: DeltaClientState;
  readonly #types: ReadonlyMap<string, DeltaType>;
  readonly #reconnect = new ReconnectPolicy();

  constructor(options: DeltaClientOptions) {
    this.#options = options;
    this.#types = new Map(options.types.map((type) => [type.typeUrl, type]));
    this.#state = new DeltaClientState([...this.#types.keys()]);
  }

  /** What a reconnect would claim to hold: accepted names with their versions. */
  held(typeUrl: string): ReadonlyMap<string, string> {
    return this.#state.held(typeUrl);
  }

  /** Stays connected until `signal` aborts, then resolves. Never rejects for what a server or network does. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, address } = this.#options;
    while (!signal.aborted) {
      const end = await this.#runStream(signal);
      if (signal.aborted) return;
      if (isTooLarge(end)) this.#state.claimNothingOnce();
      const { delayMs, reason } = this.#reconnect.next(end);
      this.#options.onTerminated?.(reason);
      const level = reason === "ConnectionError" || reason === "Error" ? "warn" : "info";
      log[level]({ address, reason, ...end, retryMs: delayMs }, "xds stream ended");
      if (delayMs > 0) await clock.sleep(delayMs, signal);
    }
  }

  async #runStream(signal: AbortSignal): Promise<StreamEnd> {
    let opened = false;
    let stream: OpenStream;
    try {
      stream = await this.#open();
    } catch (error) {
      const { code, details } = grpcError(error);
      return error instanceof GrpcError
        ? { kind: "status", opened, code, details }
        : { kind: "local", details };
    }
    using _client = stream;
    const { call } = stream;
    const cancel = (): void => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    if (signal.aborted) cancel();
    call.once("metadata", () => {
      opened = true;
      this.#options.onConnected?.();
    });
    try {
      const node = { ...this.#options.node, cluster: "" };
      for (const request of this.#state.openStream(node)) await send(call, request);
      for await (const response of call as AsyncIterable<IncomingResponse>)
        await send(call, await this.#apply(response));
      return { kind: "complete" };
    } catch (error) {
      const { code, details } = grpcError(error);
      return stream.timedOut
        ? { kind: "status", opened, code: "UNAVAILABLE", details: "connect timeout" }
        : { kind: "status", opened, code, details };
    } finally {
      signal.removeEventListener("abort", cancel);
      call.on("error", ignore); // a late status of a stream we have left
      call.cancel();
    }
  }

  async #open(): Promise<OpenStream> {
    const { altHostname, tls } = this.#options;
    const parts = channelParts({
      address: parseServerAddress(this.#options.address),
      rootCert: await this.#options.rootCert(),
      ...(altHostname === undefined ? {} : { altHostname }),
      ...tls,
    });
    const metadata = await callMetadata(this.#options);
    return new OpenStream(new Client(parts.target, parts.credentials, parts.options), metadata);
  }

  /** Applies one response, in pieces when its type asks for that, and returns the answer. */
  async #apply(response: IncomingResponse): Promise<DeltaDiscoveryRequest> {
    const type = this.#types.get(response.typeUrl);
    if (type === undefined) return this.#state.applied(response, [], []);
    const rejections: Rejection[] = [];
    const removed = this.#state.removalsOf(response);
    let resourceBytes = 0;
    const step = Math.max(1, type.chunkSize ?? response.resources.length);
    for (let start = 0; start === 0 || start < response.resources.length; start += step) {
      if (start > 0) await nextTurn();
      const isLast = start + step >= response.resources.length;
      const piece: ReceivedResource[] = [];
      for (const resource of response.resources.slice(start, start + step)) {
        resourceBytes += resource.bytes?.length ?? 0;
        if (hasPayload(resource)) piece.push(resource);
        else rejections.push({ name: resource.name, reason: "resource has no payload" });
      }
      const update = { resources: piece, removed: isLast ? removed : [], isLast };
      rejections.push(...(await this.#applyPiece(type, update)));
    }
    const { typeUrl } = response;
    if (rejections.length > 0)
      this.#options.log.warn({ typeUrl, rejections: rejections.slice(0, 8) }, "xds NACK");
    this.#options.onResponse?.({
      typeUrl,
      acked: rejections.length === 0,
      resources: response.resources.length,
      removed: removed.length,
      resourceBytes,
    });
    return this.#state.applied(response, removed, rejections);
  }

  async #applyPiece(type: DeltaType, update: DeltaUpdate): Promise<readonly Rejection[]> {
    try {
      return await type.apply(update);
    } catch (error) {
      // A defect of ours must not end in a reconnect loop that brings the same resources again.
      this.#options.log.error({ error, typeUrl: type.typeUrl }, "cannot apply xds update");
      return update.resources.map(({ name }) => ({ name, reason: "internal error" }));
    }
  }
}

/** Owns one channel with one stream on it; disposing ends both. */
class OpenStream implements Disposable {
  readonly call: ClientDuplexStream<DeltaDiscoveryRequest, IncomingResponse>;
  timedOut = false;
  readonly #client: Client;
  readonly #timer: NodeJS.Timeout;

  constructor(client: Client, metadata: Metadata) {
    this.#client = client;
    const { path, requestSerialize, responseDeserialize } = deltaClientMethod;
    this.call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
    this.#timer = setTimeout(() => {
      if (client.getChannel().getConnectivityState(false) === connectivityState.READY) return;
      this.timedOut = true;
      this.call.cancel();
    }, CONNECT_TIMEOUT_MS);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#client.close();
  }
}

async function send(
  call: ClientDuplexStream<DeltaDiscoveryRequest, IncomingResponse>,
  request: DeltaDiscoveryRequest,
): Promise<void> {
  // A destroyed stream never drains; reading it then reports why it ended.
  if (!call.write(request) && !call.destroyed)
    await Promise.race([once(call, "drain"), once(call, "close")]);
}

function hasPayload(resource: IncomingResource): resource is ReceivedResource {
  return resource.bytes !== null;
}

/** Istio's control plane accepts 4 MiB by default; a reconnect names everything held. */
function isTooLarge(end: StreamEnd): boolean {
  return (
    end.kind === "status" &&
    end.code === "RESOURCE_EXHAUSTED" &&
    /larger than max|message (size|length)/i.test(end.details)
  );
}

function ignore(): void {}
