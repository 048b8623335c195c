// The waypoint's HBONE port (15008): mutual TLS with its own certificate, and a decision per CONNECT on whether what
// it asks for is bound here (lib/model/waypoint.ts). Bound streams go to their handler, all others are refused.
import { ACCEPT_BACKLOG, ACCEPT_PAUSE_MS, AcceptLoop } from "#lib/proxy/accept-loop.ts";
import { HboneError } from "#lib/hbone/errors.ts";
import { checkTrustDomain, firstIdentity } from "#lib/proxy/peer-identity.ts";
import type { Failure } from "#lib/proxy/telemetry/connection.ts";
import { failureOfTunnel } from "#lib/proxy/telemetry/failures.ts";
import { type ConnectRequest, Tunnel, type TunnelOwner } from "#lib/hbone/tunnel.ts";
import { decideArrival, type Arrival } from "#lib/model/waypoint.ts";
import { parseIp, type SocketAddr } from "#lib/net/ip.ts";
import type { SpiffeId } from "#lib/net/spiffe.ts";
import { SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { listenTcp, localAddr, trySetOption } from "#lib/sys/socket.ts";
import type { WaypointContext } from "../context.ts";
import type { StreamHandler } from "./arrived-stream.ts";

const ANY_V6 = parseIp("::");
const ANY_V4 = parseIp("0.0.0.0");
const NOBODY: SocketAddr = { ip: ANY_V4, port: 0 };

/** Owns the listening socket and every tunnel accepted from it. */
export class HboneListener {
  readonly #context: WaypointContext;
  readonly #handlerFor: (arrival: Arrival) => StreamHandler;
  readonly tunnels: Set<Tunnel> = new Set();
  #loop: AcceptLoop | null;

  /** @throws {SysError} when the port cannot be bound */
  constructor(context: WaypointContext, handlerFor: (arrival: Arrival) => StreamHandler) {
    const { config, reactor, telemetry } = context;
    this.#context = context;
    this.#handlerFor = handlerFor;
    const fd = listenTcp({
      ip: config.ipv6Enabled ? ANY_V6 : ANY_V4,
      port: config.ports.hbone,
      backlog: ACCEPT_BACKLOG,
    });
    trySetOption(fd, "noDelay", 1); // accepted sockets inherit it
    this.#loop = new AcceptLoop(reactor, fd, {
      onAccept: (accepted, peer) => this.#accept(accepted, peer),
      onPause: (error) =>
        telemetry.refuse("inbound", NOBODY, null, {
          flag: "CONNECT",
          reason: "connect_failed",
          detail: `${error.message}; accepting again in ${ACCEPT_PAUSE_MS} ms`,
        }),
    });
  }

  /** Tells every peer to open no more streams on its tunnel. New tunnels are still taken. */
  drain(): void {
    for (const tunnel of [...this.tunnels]) tunnel.drain();
  }

  /** Takes nothing new; what waits in the backlog is served. Idempotent. */
  close(): void {
    this.#loop?.acceptWaiting();
    this.#loop?.close();
    this.#loop = null;
    this.drain();
  }

  /** Ends every tunnel now. */
  dispose(detail: string): void {
    this.close();
    for (const tunnel of [...this.tunnels]) tunnel.close(new HboneError("CLOSING", detail));
  }

  #accept(fd: number, peer: SocketAddr): void {
    const { config, identities, telemetry, reactor, peers } = this.#context;
    let local: SocketAddr;
    try {
      local = localAddr(fd);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      return closeFd(fd); // gone before we looked
    }
    identities.use(config.identity, reactor.nowMs, (contexts, reason) => {
      if (contexts === null) {
        closeFd(fd);
        return telemetry.refuse("inbound", peer, local, {
          flag: "IDENTITY_ERROR",
          reason: "identity",
          detail: `no certificate for ${config.identity}: ${reason}`,
        });
      }
      const owner = new PeerTunnel(this.#context, this.#handlerFor, this.tunnels, peer, local);
      this.tunnels.add(
        new Tunnel({
          reactor,
          fd,
          context: contexts.server,
          owner,
          peerCheck: (sans) => checkTrustDomain(sans, config.trustDomain),
          peer: { book: peers, ip: peer.ip },
          onHandshake: telemetry.onHandshake,
        }),
      );
      telemetry.socketsOpen.destination++;
    });
  }
}

/** The streams of one peer's tunnel. */
class PeerTunnel implements TunnelOwner {
  readonly #context: WaypointContext;
  readonly #handlerFor: (arrival: Arrival) => StreamHandler;
  readonly #tunnels: Set<Tunnel>;
  readonly #peer: SocketAddr;
  readonly #local: SocketAddr;
  /** Set once the tunnel is open. */
  #identity: SpiffeId | null = null;

  constructor(
    context: WaypointContext,
    handlerFor: (arrival: Arrival) => StreamHandler,
    tunnels: Set<Tunnel>,
    peer: SocketAddr,
    local: SocketAddr,
  ) {
    this.#context = context;
    this.#handlerFor = handlerFor;
    this.#tunnels = tunnels;
    this.#peer = peer;
    this.#local = local;
  }

  onOpen(tunnel: Tunnel): void {
    this.#identity = firstIdentity(tunnel.peerUriSans);
  }

  onGoAway(): void {
    // the peer closes when its streams have ended
  }

  onClosed(tunnel: Tunnel, error: HboneError): void {
    const { telemetry } = this.#context;
    this.#tunnels.delete(tunnel);
    telemetry.socketsOpen.destination--;
    if (tunnel.openedAtMs === 0 || error.code === "HTTP2")
      telemetry.refuse("inbound", this.#peer, this.#local, failureOfTunnel(error));
  }

  onConnect(tunnel: Tunnel, streamId: number, request: ConnectRequest, isEnded: boolean): void {
    const refuse = (status: number, reason: Failure["reason"], detail: string): void => {
      tunnel.refuse(streamId, status, isEnded);
      const failure: Failure = { flag: "CONNECT", reason, detail };
      this.#context.telemetry.refuse("inbound", this.#peer, this.#local, failure);
    };
    if (request.method !== "CONNECT")
      return refuse(
        400,
        "bad_authority",
        `${request.method} on the HBONE port; only CONNECT is served`,
      );
    const authority = request.authority ?? "";
    const self = this.#context.own.current;
    const decision = decideArrival(this.#context.tables, { self, authority });
    if (decision.kind === "refuse" || self === null)
      return decision.kind === "refuse"
        ? refuse(decision.status, decision.reason, decision.detail)
        : undefined;
    this.#handlerFor(decision)({
      tunnel,
      streamId,
      isEnded,
      arrival: decision,
      authority,
      self,
      peer: this.#peer,
      local: this.#local,
      identity: this.#identity,
      traceparent: request.traceparent,
    });
  }
}
