// What arrives on a pod's HBONE port (15008): a tunnel per peer, a policy decision per CONNECT, then a
// splice into the application. The decision itself is lib/model/inbound.ts and rbac.ts.
import { CONNECT_TIMEOUT_MS } from "#lib/hbone/limits.ts";
import { type ConnectRequest, Tunnel, type TunnelOwner } from "#lib/hbone/tunnel.ts";
import type { HboneError } from "#lib/hbone/errors.ts";
import { checkTrustDomain, firstIdentity } from "#lib/proxy/peer-identity.ts";
import {
  cameThroughGateway,
  decideInboundHbone,
  inboundService,
  inboundSource,
} from "#lib/model/inbound.ts";
import { authorize, type Permit, type Verdict } from "#lib/model/rbac.ts";
import type { PolicyConn } from "#lib/model/policy-match.ts";
import { identityOf, type Workload } from "#lib/model/workload.ts";
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import type { SpiffeId } from "#lib/net/spiffe.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { EPOLLERR, EPOLLHUP, EPOLLOUT, type Timer } from "#lib/sys/reactor.ts";
import { localAddr, resetOnClose, socketError } from "#lib/sys/socket.ts";
import { SysError } from "#lib/sys/errors.ts";
import { ERROR } from "#lib/wire/http2.ts";
import { parseBaggage, parseForwardedHost } from "#lib/wire/connect-headers.ts";
import { acceptHeaders } from "#lib/proxy/telemetry/baggage.ts";
import { type Connection, type Failure } from "#lib/proxy/telemetry/connection.ts";
import {
  CLIENT_RESET,
  deniedHeader,
  failureOfConnect,
  failureOfEnd,
  failureOfTunnel,
  failureOfVerdict,
} from "#lib/proxy/telemetry/failures.ts";
import { Splice, type SpliceEnd } from "#lib/proxy/splice.ts";
import type { EndLabels } from "#lib/proxy/telemetry/traffic-labels.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import { connectToApp } from "./app-socket.ts";
import type { Listener, Pod } from "./pod.ts";

/** Takes an accepted socket. */
export function onInboundHbone(pod: Pod, fd: number, peer: SocketAddr, listener: Listener): void {
  const { telemetry, identities, reactor } = pod.context;
  let local: SocketAddr;
  try {
    local = localAddr(fd);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return closeFd(fd);
  }
  const refuse = (failure: Failure): void => {
    closeFd(fd);
    telemetry.refuse("inbound", peer, local, failure);
  };
  pod.whenKnown((workload) => {
    if (workload === null)
      return refuse({
        flag: "CONNECT",
        reason: "unknown_source",
        detail: `istiod has not sent a record for pod ${pod.info.namespace}/${pod.info.name}`,
      });
    const identity = identityOf(workload);
    identities.use(identity, reactor.nowMs, (contexts, reason) => {
      if (contexts === null || pod.isGone)
        return refuse({
          flag: "IDENTITY_ERROR",
          reason: "identity",
          detail: `no certificate for ${identity}: ${reason}`,
        });
      const server = new InboundTunnel(pod, peer, local, listener.isTransparent);
      const tunnel = new Tunnel({
        reactor,
        fd,
        context: contexts.server,
        owner: server,
        peerCheck: (sans) => checkTrustDomain(sans, workload.trustDomain),
        peer: { book: pod.context.peers, ip: peer.ip },
        onHandshake: telemetry.onHandshake,
      });
      telemetry.socketsOpen.destination++;
      pod.inboundTunnels.add(tunnel);
      if (pod.isDraining) tunnel.drain(); // accepted before
    });
  });
}

/** The streams of one peer's tunnel. */
class InboundTunnel implements TunnelOwner {
  readonly pod: Pod;
  readonly peer: SocketAddr;
  readonly local: SocketAddr;
  readonly keepsSource: boolean;
  /** First SPIFFE identity of the peer; set once the tunnel is open. */
  identity: SpiffeId | null = null;

  constructor(pod: Pod, peer: SocketAddr, local: SocketAddr, keepsSource: boolean) {
    this.pod = pod;
    this.peer = peer;
    this.local = local;
    this.keepsSource = keepsSource;
  }

  onOpen(tunnel: Tunnel): void {
    this.identity = firstIdentity(tunnel.peerUriSans);
  }

  onGoAway(): void {
    // the peer closes when its streams have ended
  }

  onClosed(tunnel: Tunnel, error: HboneError): void {
    const { telemetry } = this.pod.context;
    this.pod.inboundTunnels.delete(tunnel);
    telemetry.socketsOpen.destination--;
    if (tunnel.openedAtMs === 0 || error.code === "HTTP2")
      telemetry.refuse("inbound", this.peer, this.local, failureOfTunnel(error));
  }

  onConnect(tunnel: Tunnel, streamId: number, request: ConnectRequest, isEnded: boolean): void {
    const refuse = (status: number, reason: Failure["reason"], detail: string): void => {
      tunnel.refuse(streamId, status, isEnded);
      const failure: Failure = { flag: "CONNECT", reason, detail };
      this.pod.context.telemetry.refuse("inbound", this.peer, this.local, failure);
    };
    if (request.method !== "CONNECT")
      return refuse(
        400,
        "bad_authority",
        `${request.method} on the HBONE port; only CONNECT is served`,
      );
    const { tables, config } = this.pod.context;
    const decision = decideInboundHbone(tables, {
      local: this.pod.workload,
      localIp: this.local.ip,
      authority: request.authority ?? "",
      network: config.network,
      localhostAppTunnel: config.localhostAppTunnel,
    });
    if (decision.kind === "refuse")
      return refuse(decision.status, decision.reason, decision.detail);
    if (decision.proxyHeader !== null)
      return refuse(503, "no_port", "PROXY-protocol application tunnels are not served yet");
    const stream = new InboundStream(this, decision.local, decision.policyTarget, request);
    // asked once the tunnel knows the stream, so that answers find it
    tunnel.bind(stream, streamId, isEnded);
    stream.start(decision.connectTo);
  }
}

/** One CONNECT: asked about, connected to the application, spliced. */
class InboundStream extends Splice implements Live {
  readonly connection: Connection;
  readonly #owner: InboundTunnel;
  readonly #conn: PolicyConn;
  readonly #local: Workload;
  #failure: Failure | null = null;
  #connectTimer: Timer | null = null;
  #target = "";
  /** Forwarding demands one. */
  #permit: Permit | null = null;

  constructor(owner: InboundTunnel, local: Workload, target: SocketAddr, request: ConnectRequest) {
    const { context } = owner.pod;
    super(context.reactor);
    this.#owner = owner;
    this.#local = local;
    this.#conn = {
      sourceIp: owner.peer.ip,
      identity: owner.identity,
      destinationIp: target.ip,
      destinationPort: target.port,
    };
    const { tables, config } = context;
    const origin = {
      network: config.network,
      peerIp: owner.peer.ip,
      forwardedNetwork: request.forwardedNetwork,
    };
    const source = inboundSource(tables, origin);
    const host = request.forwarded === null ? null : parseForwardedHost(request.forwarded);
    const service = inboundService(tables, local, target.port, host);
    const isRemote = cameThroughGateway(config.network, request.forwardedNetwork);
    this.connection = context.telemetry.open(
      {
        reporter: "destination",
        source: source ?? (config.responseBaggage ? baggageEnd(request.baggage) : null),
        sourceIdentity: owner.identity,
        destination: local,
        service,
        isMutualTls: true,
      },
      {
        direction: "inbound",
        protocol: "HBONE",
        source: owner.peer,
        sourceWorkload: isRemote ? null : source,
        sourceIdentity: owner.identity,
        destination: owner.local,
        original: request.authority ?? "",
        destinationWorkload: local,
        destinationIdentity: owner.pod.identity,
        service,
        via: null,
      },
    );
    this.connection.countedBy(this);
    owner.pod.live.add(this); // before policy is asked: a change in between must find it
  }

  start(connectTo: SocketAddr): void {
    const verdict = this.#ask();
    if (verdict.kind !== "allow") return this.#deny(verdict, false);
    this.#permit = verdict.permit;
    this.connection.policy = verdict.by;
    this.connection.verdict = "allowed";
    this.#target = formatSocketAddr(connectTo);
    const client = this.#owner.keepsSource ? this.#owner.peer.ip : null;
    const socket = connectToApp(this.#owner.pod, connectTo, client);
    if (socket.kind === "failed") return this.#connectFailed(socket.errno);
    this.watch(socket.fd, socket.kind === "connecting");
    if (socket.kind === "connected") return this.#connected();
    this.#connectTimer = this.reactor.after(CONNECT_TIMEOUT_MS, () => this.#connectFailed(-1));
  }

  override onReady(events: number): void {
    if (this.#connectTimer === null) return super.onReady(events);
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) === 0) return;
    const isFailed = (events & (EPOLLERR | EPOLLHUP)) !== 0;
    const errno = isFailed ? socketError(this.fd) : 0;
    if (errno !== 0) return this.#connectFailed(errno);
    this.#connectTimer.cancel();
    this.#connectTimer = null;
    this.#connected();
    super.onReady(events);
  }

  onResponse(): void {
    // a server gets no responses
  }

  /**
   * A client that gave up before its answer has said nothing to the application. Without the reset, a client that
   * does so at full speed would use up the source ports of its address, and the kernel would search for free ones
   * at everybody's expense.
   */
  override onReset(code: number, error: HboneError | null): void {
    if (!this.isEstablished || this.answeredInTurn === this.reactor.turns) {
      if (this.fd >= 0) resetOnClose(this.fd);
      if (error === null && code === ERROR.CANCEL) this.#failure ??= CLIENT_RESET;
    }
    super.onReset(code, error);
  }

  recheck(): void {
    const verdict = this.#ask();
    if (verdict.kind === "allow") {
      this.connection.policy = verdict.by;
      return;
    }
    this.#deny(verdict, true);
  }

  end(failure: Failure): void {
    this.#failure ??= failure;
    this.finish({ kind: "finished" }, true);
  }

  protected onOver(end: SpliceEnd): void {
    this.#connectTimer?.cancel();
    this.#connectTimer = null;
    const failure = this.#failure ?? (end.kind === "reset" ? failureOfEnd(end) : null);
    this.#owner.pod.live.delete(this);
    this.#owner.pod.context.telemetry.close(this.connection, failure);
  }

  protected countFromApp(length: number): void {
    this.bytesSent += length;
  }

  protected countToApp(length: number): void {
    this.bytesReceived += length;
  }

  #connected(): void {
    if (this.#permit === null) return this.end(NO_PERMIT);
    const { config } = this.#owner.pod.context;
    this.tunnel?.respond(this, 200, acceptHeaders(this.#local, config.responseBaggage));
    this.flushEarlyData();
  }

  #ask(): Verdict {
    const { pod } = this.#owner;
    return authorize(pod.context.tables.policiesFor(pod.workload ?? this.#local), this.#conn);
  }

  #deny(verdict: Exclude<Verdict, { kind: "allow" }>, isChange: boolean): void {
    const { pod } = this.#owner;
    const policies = pod.context.tables.policiesFor(pod.workload ?? this.#local);
    const failure = failureOfVerdict(verdict, policies, this.#conn, isChange);
    this.connection.verdict = "denied";
    this.connection.policy = failure.policy ?? null;
    if (!this.isEstablished)
      this.tunnel?.respond(this, 401, [
        [":status", "401"],
        ["x-ambit-denied", deniedHeader(failure)],
      ]);
    this.end(failure);
  }

  #connectFailed(errno: number): void {
    this.tunnel?.respond(this, 503, [[":status", "503"]]);
    this.end(failureOfConnect(errno, this.#target));
  }
}

const NO_PERMIT: Failure = {
  flag: "DENY",
  reason: "policy_no_allow_match",
  detail: "no permit to forward",
};

/** The source in its own words, when its record is not known here. Telemetry only. */
function baggageEnd(text: string | null): EndLabels | null {
  if (text === null) return null;
  const b = parseBaggage(text);
  return {
    workload: b.workloadName,
    canonicalService: b.serviceName,
    canonicalRevision: b.revision,
    namespace: b.namespace,
    app: b.workloadName,
    version: b.revision,
    cluster: b.clusterId,
    region: b.region,
    zone: b.zone,
  };
}
