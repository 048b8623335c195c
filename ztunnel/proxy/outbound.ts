// A connection that a captured pod opens (15001): decided once, then spliced into a tunnel or passed on
// in plaintext. The decision itself is lib/model/outbound.ts.
import { HboneError } from "#lib/hbone/errors.ts";
import type { PoolKey } from "#lib/hbone/pool.ts";
import { Tunnel, type TunnelOwner } from "#lib/hbone/tunnel.ts";
import { formatSocketAddr, isIpv6, isLoopback, type SocketAddr, tryParseIp } from "#lib/net/ip.ts";
import { OWN_PORTS } from "#lib/net/ports.ts";
import {
  decideOutbound,
  type HboneDecision,
  type OutboundDecision,
  type TcpDecision,
} from "#lib/model/outbound.ts";
import type { Workload } from "#lib/model/workload.ts";
import { closeFd } from "#lib/sys/netns.ts";
import {
  closeWithReset,
  connectFd,
  originalDst,
  setKeepalive,
  tcpSocket,
} from "#lib/sys/socket.ts";
import { errnoName, SysError } from "#lib/sys/errors.ts";
import { formatForwarded } from "#lib/wire/connect-headers.ts";
import { newTraceparent } from "#lib/wire/traceparent.ts";
import { baggageOf } from "./baggage.ts";
import type { Connection, Failure } from "./connection.ts";
import { recordIdentity } from "./connection.ts";
import type { DataPlaneContext } from "./data-plane-context.ts";
import { failureOfConnect, failureOfEnd, failureOfTunnel } from "./failures.ts";
import type { IdentityContexts } from "./identities.ts";
import type { Live, Pod } from "./pod.ts";
import { Splice, type SpliceEnd } from "./splice.ts";
import { TcpSplice } from "./tcp-splice.ts";

/** Takes an accepted socket. */
export function onOutbound(pod: Pod, fd: number, peer: SocketAddr): void {
  const { telemetry } = pod.context;
  let destination: SocketAddr;
  try {
    destination = originalDst(fd);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return closeFd(fd); // gone before we looked
  }
  telemetry.socketsOpen.source++;
  const refuse = (failure: Failure): void => {
    telemetry.socketsOpen.source--;
    closeWithReset(fd);
    telemetry.refuse("outbound", peer, destination, failure);
  };
  if (isLoopback(destination.ip) && OWN_PORTS.has(destination.port))
    return refuse({
      flag: "CONNECT",
      reason: "self_call",
      detail: `${formatSocketAddr(destination)} is the proxy itself`,
    });
  const { workload } = pod;
  if (workload !== null) return decide(pod, fd, peer, destination, workload);
  pod.whenKnown((arrived) => {
    if (arrived === null)
      return refuse({
        flag: "CONNECT",
        reason: "unknown_source",
        detail: `istiod has not sent a record for pod ${pod.info.namespace}/${pod.info.name} (service account ${pod.info.serviceAccount})`,
      });
    decide(pod, fd, peer, destination, arrived);
  });
}

function decide(
  pod: Pod,
  fd: number,
  peer: SocketAddr,
  destination: SocketAddr,
  source: Workload,
): void {
  const { tables, config, random } = pod.context;
  const decision = decideOutbound(tables, {
    source,
    sourceIp: peer.ip,
    destination,
    network: config.network,
    random,
  });
  carryOut(pod, fd, peer, destination, source, decision);
}

function carryOut(
  pod: Pod,
  fd: number,
  peer: SocketAddr,
  destination: SocketAddr,
  source: Workload,
  decision: OutboundDecision,
): void {
  switch (decision.kind) {
    case "hbone":
      new OutboundTunnelled(pod, fd, peer, destination, source, decision).start();
      return;
    case "tcp":
      return openPlain(pod, fd, peer, destination, source, decision);
    case "resolve":
      return pod.context.resolve(decision.hostname, decision.prefer, (text) => {
        const ip = text === null ? null : tryParseIp(text);
        if (ip !== null) return carryOut(pod, fd, peer, destination, source, decision.complete(ip));
        reject(pod, fd, peer, destination, source, {
          kind: "reject",
          reason: "no_address",
          detail: `${decision.hostname} cannot be resolved`,
          service: decision.service,
        });
      });
    case "reject":
      return reject(pod, fd, peer, destination, source, decision);
    default:
      return decision satisfies never;
  }
}

/** Decided against: counted and told like any connection, then reset. */
function reject(
  pod: Pod,
  fd: number,
  peer: SocketAddr,
  destination: SocketAddr,
  source: Workload,
  decision: Extract<OutboundDecision, { kind: "reject" }>,
): void {
  const { telemetry } = pod.context;
  const c = telemetry.open(
    {
      reporter: "source",
      source,
      sourceIdentity: null,
      destination: null,
      service: decision.service,
      isMutualTls: false,
    },
    {
      direction: "outbound",
      protocol: "TCP",
      source: peer,
      sourceWorkload: source,
      sourceIdentity: null,
      destination,
      original: formatSocketAddr(destination),
      destinationWorkload: null,
      destinationIdentity: null,
      service: decision.service,
      via: null,
    },
  );
  closeWithReset(fd);
  telemetry.socketsOpen.source--;
  telemetry.close(c, { flag: "CONNECT", reason: decision.reason, detail: decision.detail });
}

/** An application's connection on its way through a tunnel. */
class OutboundTunnelled extends Splice implements Live {
  readonly connection: Connection;
  readonly #pod: Pod;
  readonly #source: Workload;
  readonly #peer: SocketAddr;
  /** Until the tunnel is established: then it has said all it can. */
  #decision: HboneDecision | null;
  #failure: Failure | null = null;
  /** A second tunnel may be tried while the application has seen nothing. */
  #attempts = 0;

  constructor(
    pod: Pod,
    fd: number,
    peer: SocketAddr,
    destination: SocketAddr,
    source: Workload,
    decision: HboneDecision,
  ) {
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
      this.attach(this.fd);
      this.reactor.again(this);
      return;
    }
    this.connection.verdict = status === 401 ? "denied" : "allowed";
    this.end(failureOfStatus(status, decision, this.deniedBy));
  }

  override onReset(code: number, error: HboneError | null): void {
    if (error?.code === "REFUSED" && !this.isEstablished && ++this.#attempts < 3)
      return this.start();
    super.onReset(code, error);
  }

  recheck(): void {
    // policy is asked at the destination
  }

  end(failure: Failure): void {
    this.#failure ??= failure;
    this.finish({ kind: "finished" });
  }

  protected onOver(end: SpliceEnd): void {
    const failure = this.#failure ?? (end.kind === "reset" ? failureOfEnd(end) : null);
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
  decision: HboneDecision,
  owner: TunnelOwner,
): Tunnel {
  const fd = podSocket(pod, decision.nextHop);
  const errno = connectFd(fd, decision.nextHop);
  if (errno !== 0) {
    closeFd(fd);
    throw new HboneError(
      "CONNECT",
      `connect to ${formatSocketAddr(decision.nextHop)}: ${errnoName(errno)}`,
    );
  }
  const expected: readonly string[] = decision.expectedIdentities;
  return new Tunnel({
    reactor: pod.context.reactor,
    fd,
    isConnecting: true,
    context: contexts.client,
    owner,
    peerCheck: (sans) =>
      sans.some((san) => expected.includes(san))
        ? null
        : `the peer shows ${sans.join(", ") || "no identity"}, expected ${expected.join(" or ") || "none"}`,
  });
}

/** A socket in the pod's namespace, as all that leave it are. @throws {HboneError} CONNECT */
function podSocket(pod: Pod, to: SocketAddr): number {
  const { config } = pod.context;
  try {
    pod.enter();
    const fd = tcpSocket({ family: isIpv6(to.ip) ? "ipv6" : "ipv4", mark: config.packetMark });
    if (config.keepalive !== null)
      setKeepalive(fd, config.keepalive.idle, config.keepalive.interval, config.keepalive.count);
    return fd;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    throw new HboneError("CONNECT", `no socket in the pod's namespace: ${error.message}`);
  }
}

function failureOfStatus(
  status: number,
  decision: HboneDecision,
  deniedBy: string | null,
): Failure {
  const where =
    decision.via === null
      ? decision.authority
      : `waypoint ${decision.via.namespace}/${decision.via.name}`;
  if (status !== 401)
    return { flag: "CONNECT", reason: "http_status", detail: `${where} answered ${status}` };
  const [reason, policy] = deniedBy?.split(" ") ?? [];
  return {
    flag: "CONNECT",
    reason: "http_status",
    detail: `${where} answered 401: denied by ${policy === undefined ? "its policy" : `policy ${policy}`}${reason === undefined ? "" : ` (${reason})`}`,
    ...(policy === undefined ? {} : { policy }),
  };
}

/** Plaintext to what is not in the mesh. */
function openPlain(
  pod: Pod,
  fd: number,
  peer: SocketAddr,
  destination: SocketAddr,
  source: Workload,
  decision: TcpDecision,
): void {
  const { telemetry, reactor }: DataPlaneContext = pod.context;
  const c = telemetry.open(
    {
      reporter: "source",
      source,
      sourceIdentity: null,
      destination: decision.destination,
      service: decision.service,
      isMutualTls: false,
    },
    {
      direction: "outbound",
      protocol: "TCP",
      source: peer,
      sourceWorkload: source,
      sourceIdentity: null,
      destination: decision.address,
      original: formatSocketAddr(destination),
      destinationWorkload: decision.destination,
      destinationIdentity: null,
      service: decision.service,
      via: null,
    },
  );
  let far: number;
  let errno: number;
  try {
    far = podSocket(pod, decision.address);
    errno = connectFd(far, decision.address);
    if (errno !== 0) closeFd(far);
  } catch (error) {
    if (!(error instanceof HboneError)) throw error;
    closeWithReset(fd);
    telemetry.socketsOpen.source--;
    return telemetry.close(c, failureOfTunnel(error));
  }
  const target = formatSocketAddr(decision.address);
  if (errno !== 0) {
    closeWithReset(fd);
    telemetry.socketsOpen.source--;
    return telemetry.close(c, failureOfConnect(errno, target));
  }
  let failure: Failure | null = null;
  const splice = new TcpSplice(reactor, fd, far, true, {
    onConnected: () => {
      c.verdict = "allowed";
    },
    onOver: (connectErrno) => {
      pod.live.delete(live);
      telemetry.socketsOpen.source--;
      telemetry.close(
        c,
        failure ?? (connectErrno === 0 ? null : failureOfConnect(connectErrno, target)),
      );
    },
  });
  c.countedBy(splice);
  const live: Live = {
    connection: c,
    tunnel: null,
    recheck: () => {},
    end: (why) => {
      failure ??= why;
      splice.close();
    },
  };
  pod.live.add(live);
}
