// One client's stream: reads its requests, and writes at most one batch of responses at a time. What
// changes while a batch is under way is remembered by name only, and sent as it is then.
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { GrpcError } from "#lib/grpc/errors.ts";
import { endWith } from "#lib/grpc/server.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { DeltaDiscoveryRequest } from "#lib/wire/gen/discovery.gen.ts";
import {
  DeltaServerStream,
  type Received,
  type SubscriptionStatus,
} from "#lib/xds/delta-server.ts";
import {
  ADDRESS_TYPE,
  AUTHORIZATION_TYPE,
  WAYPOINT_POLICY_TYPE,
  WORKLOAD_TYPE,
} from "#lib/xds/type-urls.ts";
import type { Metrics } from "../metrics.ts";
import { encodeResponse, type EncodedPush } from "./encoded-push.ts";
import type { ProxyNode } from "./node.ts";
import type { PushState } from "./push-state.ts";
import type { Gated } from "./send-gate.ts";
import type { ChangedNames } from "./shared-push.ts";

export type DeltaStream = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>;

export interface ConnectionStatus {
  readonly id: string;
  readonly node: string;
  readonly type: string;
  readonly peer: string;
  readonly connectedAt: string;
  readonly pendingWrites: number;
  /** When it last took what it was sent, of any type; `null` before the first time. */
  readonly lastAck: string | null;
  readonly subscriptions: readonly SubscriptionStatus[];
}

export interface ConnectionOptions {
  readonly id: string;
  readonly node: ProxyNode;
  readonly peer: string;
  readonly stream: DeltaStream;
  readonly state: PushState;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** A client that takes nothing for this long is cut off; keepalive finds dead ones sooner. */
const WRITE_TIMEOUT_MS = 120_000;
/** How long a first subscription waits for the second. */
const SECOND_REQUEST_MS = 50;
/** Larger answers need room at the gate. */
const LARGE_BYTES = 512 * 1024;
/** Of one resource in a response, estimated high. */
const RESOURCE_BYTES = 400;
const LABEL: Readonly<Record<string, string>> = {
  [ADDRESS_TYPE]: "wds",
  [AUTHORIZATION_TYPE]: "wads",
  [WORKLOAD_TYPE]: "workload",
  [WAYPOINT_POLICY_TYPE]: "waypoint",
};

/** Borrows the stream: the service that made it ends it. Dispose when the stream is over. */
export class XdsConnection implements Gated, Disposable {
  readonly #options: ConnectionOptions;
  readonly #delta: DeltaServerStream;
  readonly #connectedAt = new Date();
  #lastAck: Date | null = null;
  #writes = 0;
  #writeTimer: NodeJS.Timeout | null = null;
  /** Runs while only the first of two subscriptions has arrived. */
  #secondRequest: NodeJS.Timeout | null = null;
  /** State number of the last responses made from the live tables: shared bytes may be older. */
  #liveVersion = -1;
  #isClosed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#delta = new DeltaServerStream(options.state.source);
    this.#delta.nodeName = options.node.nodeName;
  }

  receive(request: DeltaDiscoveryRequest): void {
    const received = this.#mayAskFor(request.typeUrl)
      ? this.#delta.receive(request)
      : { kind: "ignored" as const, typeUrl: request.typeUrl, why: "unknown-type" as const };
    this.#note(received);
    if (received.kind === "too-many-names") {
      endWith(this.#options.stream, new GrpcError("RESOURCE_EXHAUSTED", "too many resource names"));
      return;
    }
    if (received.kind !== "subscribed") return;
    // Proxies ask for addresses and, at once, for policies. Both are answered together, policies first; who
    // asks for addresses only waits a moment longer.
    const isHalf = this.#delta.hasFirstAnswerDue() && !this.#delta.isSubscribed(this.#policyType);
    if (isHalf) this.#secondRequest ??= setTimeout(() => this.#flush(), SECOND_REQUEST_MS);
    else this.#flush();
  }

  /**
   * Takes a change. A client that is up to date and ready gets the shared bytes; any other has the
   * names noted and gets them from the tables as they are when it is ready.
   * @param version the state number the shared bytes were made at
   */
  push(changed: ChangedNames, shared: readonly EncodedPush[], version: number): void {
    if (this.#isClosed) return;
    const isReady = this.#writes === 0 && this.#liveVersion < version && this.#isUpToDate();
    if (isReady && this.#mayWrite(shared.reduce((sum, { bytes }) => sum + bytes.length, 0))) {
      for (const push of shared)
        if (this.#delta.isSubscribed(push.typeUrl)) {
          this.#delta.sent(push.typeUrl, push.nonce);
          this.#write(push);
        }
      return;
    }
    this.#delta.changed(ADDRESS_TYPE, changed.addresses);
    this.#delta.changed(WORKLOAD_TYPE, changed.addresses);
    this.#delta.changed(AUTHORIZATION_TYPE, changed.policies);
    this.#delta.changed(WAYPOINT_POLICY_TYPE, changed.waypointPolicies);
    this.#flush();
  }

  onGateOpen(): void {
    this.#flush();
  }

  status(): ConnectionStatus {
    const { id, node, peer } = this.#options;
    return {
      id,
      node: node.id,
      type: node.type,
      peer,
      connectedAt: this.#connectedAt.toISOString(),
      pendingWrites: this.#writes,
      lastAck: this.#lastAck?.toISOString() ?? null,
      subscriptions: this.#delta.status(),
    };
  }

  /** Ends the stream with status OK: the client comes back at once, to another replica if there is one. */
  end(): void {
    this.#options.stream.end();
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#options.state.gate.leave(this);
    if (this.#secondRequest !== null) clearTimeout(this.#secondRequest);
    if (this.#writeTimer !== null) clearTimeout(this.#writeTimer);
  }

  /** What this kind of proxy enforces, and must have before the addresses that are served under it. */
  get #policyType(): string {
    return this.#options.node.type === "waypoint" ? WAYPOINT_POLICY_TYPE : AUTHORIZATION_TYPE;
  }

  /** Policies for waypoints are nobody else's: a ztunnel that took them would enforce them a hop too late. */
  #mayAskFor(typeUrl: string): boolean {
    return typeUrl !== WAYPOINT_POLICY_TYPE || this.#options.node.type === "waypoint";
  }

  #isUpToDate(): boolean {
    return (
      !this.#delta.isSubscribed(WORKLOAD_TYPE) &&
      [ADDRESS_TYPE, AUTHORIZATION_TYPE, WAYPOINT_POLICY_TYPE].every(
        (url) => !this.#delta.isSubscribed(url) || this.#delta.isInStep(url),
      )
    );
  }

  /** False: called again when there is room. */
  #mayWrite(bytes: number): boolean {
    return bytes < LARGE_BYTES || this.#options.state.gate.enter(this, bytes);
  }

  #flush(): void {
    if (this.#secondRequest !== null) clearTimeout(this.#secondRequest);
    this.#secondRequest = null;
    if (this.#isClosed || this.#writes > 0 || !this.#delta.hasDue()) return;
    const { state } = this.#options;
    if (!this.#mayWrite(this.#delta.countDue() * RESOURCE_BYTES)) return;
    this.#liveVersion = state.version;
    // A client that holds policies but no addresses is the odd one; its order needs the general way.
    const policyType = this.#policyType;
    if (this.#delta.wantsEverything(policyType)) {
      this.#writeEverything(policyType);
      if (this.#delta.wantsEverything(ADDRESS_TYPE)) this.#writeEverything(ADDRESS_TYPE);
    }
    for (const response of this.#delta.flush(state.nonce, String(state.version)))
      for (const push of encodeResponse(response, state.nonce)) this.#write(push);
    if (this.#writes === 0) state.gate.leave(this);
  }

  #writeEverything(typeUrl: string): void {
    for (const push of this.#options.state.everything(typeUrl)) {
      this.#delta.sent(typeUrl, push.nonce);
      this.#write(push);
    }
  }

  #write(push: EncodedPush): void {
    const { metrics, stream, node } = this.#options;
    const type = LABEL[push.typeUrl] ?? "other";
    metrics.pushes.inc({ type });
    metrics.configSize.observe({ type }, push.bytes.length);
    this.#writes++;
    this.#writeTimer ??= setTimeout(() => {
      metrics.writeTimeouts.inc();
      this.#options.log.warn({ node: node.id }, "client stopped reading; stream closed");
      stream.destroy();
    }, WRITE_TIMEOUT_MS);
    stream.write(push.bytes, () => this.#written());
  }

  /** Called when the transport took the bytes, flow control included. */
  #written(): void {
    this.#writes--;
    if (this.#writes > 0 || this.#isClosed) return;
    if (this.#writeTimer !== null) clearTimeout(this.#writeTimer);
    this.#writeTimer = null;
    this.#options.state.gate.leave(this);
    this.#flush();
  }

  #note(received: Received): void {
    const { metrics, log, node } = this.#options;
    const type = LABEL[received.typeUrl] ?? "other";
    switch (received.kind) {
      case "nack":
        metrics.rejects.inc({ type });
        log.warn(
          { node: node.id, type, reason: received.message.slice(0, 2048) },
          "client refused resources",
        );
        return;
      case "ignored":
        if (received.why === "stale-nonce") metrics.expiredNonces.inc({ type });
        log.debug(
          { node: node.id, typeUrl: received.typeUrl, why: received.why },
          "request ignored",
        );
        return;
      case "subscribed":
        log.debug({ node: node.id, type }, "subscribed");
        return;
      case "ack":
        this.#lastAck = new Date();
        return;
      case "too-many-names":
        return;
      default:
        received satisfies never;
    }
  }
}
