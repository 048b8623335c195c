// An application's connection that goes through a tunnel: certificate, pool, CONNECT, splice.
import { dialTunnel } from "#lib/proxy/dial.ts";
import { HboneError } from "#lib/hbone/errors.ts";
import type { PoolKey } from "#lib/hbone/pool.ts";
import type { Tunnel, TunnelOwner } from "#lib/hbone/tunnel.ts";
import type { SocketAddr } from "#lib/net/ip.ts";
import type { HboneDecision } from "#lib/model/outbound.ts";
import type { Workload } from "#lib/model/workload.ts";
import { formatForwarded } from "#lib/wire/connect-headers.ts";
import { newTraceparent } from "#lib/wire/traceparent.ts";
import { baggageOf } from "#lib/proxy/telemetry/baggage.ts";
import { recordIdentity, type Connection, type Failure } from "#lib/proxy/telemetry/connection.ts";
import {
  CLIENT_RESET,
  failureOfEnd,
  failureOfSilence,
  failureOfStatus,
  failureOfTunnel,
} from "#lib/proxy/telemetry/failures.ts";
import type { IdentityContexts } from "#lib/proxy/identities.ts";
import { Splice, type SpliceEnd } from "#lib/proxy/splice.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import type { Outgoing } from "./outgoing.ts";
import { podSocket } from "./pod-socket.ts";
import type { Pod } from "./pod.ts";

/** Owns the application's socket; the pod's pool owns the tunnel. */
export class OutboundTunnel extends Splice implements Live {
  readonly connection: Connection;
  readonly #pod: Pod;
  readonly #source: Workload;
  readonly #peer: SocketAddr;
  /** Until the tunnel is established: then it has said all it can. */
  #decision: HboneDecision | null;
  #failure: Failure | null = null;
  /** A second tunnel may be tried while the application has seen nothing. */
  #attempts = 0;

  constructor({ pod, fd, peer, source }: Outgoing, decision: HboneDecision) {
    super(pod.context.reactor);
    this.#pod = pod;
    this.#source = source;
    this.#peer = peer;
    this.#decision = decision;
    this.fd = fd;
    const sourceIdentity = pod.identity;
    this.connection = pod.context.telemetry.open(
      {
        reporter: "source",
        source,
        sourceIdentity,
        destination: decision.destination,
        service: decision.service,
        isMutualTls: true,
      },
      {
        direction: "outbound",
        protocol: "HBONE",
        source: peer,
        sourceWorkload: source,
        sourceIdentity,
        destination: decision.nextHop,
        original: decision.authority,
        destinationWorkload: decision.destination,
        destinationIdentity: recordIdentity(decision.destination),
        service: decision.service,
        via: decision.via,
      },
    );
    this.connection.countedBy(this);
    pod.live.add(this);
  }

  start(): void {
    const { identities, reactor } = this.#pod.context;
    const { identity } = this.#pod;
    identities.use(identity, reactor.nowMs, (contexts, reason) => {
      if (this.isOver) return;
      if (contexts === null)
        return this.end({
          flag: "IDENTITY_ERROR",
          reason: "identity",
          detail: `no certificate for ${identity}: ${reason}`,
        });
      this.#open(contexts);
    });
  }

  onResponse(status: number): void {
    const decision = this.#decision;
    if (status === 200 || decision === null) {
      this.#decision = null;
      this.connection.verdict = "allowed";
      this.readFirst(this.fd);
      return;
    }
    this.connection.verdict = status === 401 ? "denied" : "allowed";
    this.end(failureOfStatus(status, whereOf(decision), this.deniedBy));
  }

  override onReset(code: number, error: HboneError | null): void {
    if (error?.code === "REFUSED" && !this.isEstablished && ++this.#attempts < 3)
      return this.start();
    if (error?.code === "NO_ANSWER" && this.#decision !== null)
      return this.end(failureOfSilence(error, whereOf(this.#decision)));
    super.onReset(code, error);
  }

  recheck(): void {
    // policy is asked at the destination
  }

  end(failure: Failure): void {
    this.#failure ??= failure;
    this.finish({ kind: "finished" }, true);
  }

  protected onOver(end: SpliceEnd): void {
    const atEnd = this.isAppReset ? CLIENT_RESET : null;
    const failure = this.#failure ?? (end.kind === "reset" ? failureOfEnd(end) : atEnd);
    this.#pod.live.delete(this);
    this.#pod.context.telemetry.socketsOpen.source--;
    this.#pod.context.telemetry.close(this.connection, failure);
  }

  protected countFromApp(length: number): void {
    this.bytesSent += length;
  }

  protected countToApp(length: number): void {
    this.bytesReceived += length;
  }

  #open(contexts: IdentityContexts): void {
    const decision = this.#decision;
    if (decision === null) return;
    const { nextHop, authority, expectedIdentities, service } = decision;
    const key: PoolKey = { nextHop, sourceIp: this.#peer.ip, identities: expectedIdentities };
    const { context } = this.#pod;
    try {
      this.#pod.pool.open(key, (owner) => dial(this.#pod, contexts, decision, owner), this, [
        [":method", "CONNECT"],
        [":authority", authority],
        ["baggage", baggageOf(this.#source)],
        ["forwarded", formatForwarded(this.#peer, service?.hostname ?? null)],
        ["traceparent", newTraceparent(context.randomUint32)],
      ]);
    } catch (error) {
      if (!(error instanceof HboneError)) throw error;
      this.end(failureOfTunnel(error));
    }
  }
}

function dial(
  pod: Pod,
  contexts: IdentityContexts,
  { nextHop: to, expectedIdentities: identities }: HboneDecision,
  owner: TunnelOwner,
): Tunnel {
  const { reactor, peers, telemetry } = pod.context;
  const { onHandshake } = telemetry;
  const fd = podSocket(pod, to);
  const context = contexts.client;
  return dialTunnel({ reactor, fd, to, context, identities, peers, owner, onHandshake });
}

/** Who was asked, as an operator knows it. */
function whereOf({ via, authority }: HboneDecision): string {
  return via === null ? authority : `waypoint ${via.namespace}/${via.name}`;
}
