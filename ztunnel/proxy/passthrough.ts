// Plaintext that arrives at a captured pod (15006): policy without an identity, then straight on.
import { decidePlaintext, inboundService, inboundSource } from "#lib/model/inbound.ts";
import { authorize } from "#lib/model/rbac.ts";
import type { PolicyConn } from "#lib/model/policy-match.ts";
import type { Workload } from "#lib/model/workload.ts";
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import { SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { closeWithReset, originalDst } from "#lib/sys/socket.ts";
import { recordIdentity, type Connection, type Failure } from "#lib/proxy/telemetry/connection.ts";
import { CLIENT_RESET, failureOfConnect, failureOfVerdict } from "#lib/proxy/telemetry/failures.ts";
import { TcpSplice } from "#lib/proxy/tcp-splice.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import { connectToApp } from "./app-socket.ts";
import type { Listener, Pod } from "./pod.ts";

/** Takes an accepted socket. */
export function onInboundPlaintext(
  pod: Pod,
  fd: number,
  peer: SocketAddr,
  listener: Listener,
): void {
  const { telemetry } = pod.context;
  let destination: SocketAddr;
  try {
    destination = originalDst(fd);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return closeFd(fd);
  }
  telemetry.socketsOpen.destination++;
  pod.whenKnown((workload) => {
    const decision = decidePlaintext({ local: workload, originalDestination: destination });
    if (decision.kind === "forward")
      return new PlaintextConnection(pod, fd, peer, decision.target, decision.local).start(
        listener.isTransparent,
      );
    telemetry.socketsOpen.destination--;
    closeWithReset(fd);
    const failure: Failure = { flag: "CONNECT", reason: decision.reason, detail: decision.detail };
    telemetry.refuse("inbound", peer, destination, failure);
  });
}

class PlaintextConnection implements Live {
  readonly connection: Connection;
  readonly tunnel = null;
  readonly #pod: Pod;
  readonly #fd: number;
  readonly #target: SocketAddr;
  readonly #local: Workload;
  readonly #conn: PolicyConn;
  #splice: TcpSplice | null = null;
  #failure: Failure | null = null;
  #isOver = false;

  constructor(pod: Pod, fd: number, peer: SocketAddr, target: SocketAddr, local: Workload) {
    this.#pod = pod;
    this.#fd = fd;
    this.#target = target;
    this.#local = local;
    this.#conn = {
      sourceIp: peer.ip,
      identity: null,
      destinationIp: target.ip,
      destinationPort: target.port,
    };
    const { tables, config, telemetry } = pod.context;
    const source = inboundSource(tables, {
      network: config.network,
      peerIp: peer.ip,
      forwardedNetwork: null,
    });
    const service = inboundService(tables, local, target.port, null);
    this.connection = telemetry.open(
      {
        reporter: "destination",
        source,
        sourceIdentity: null,
        destination: local,
        service,
        isMutualTls: false,
      },
      {
        direction: "inbound",
        protocol: "TCP",
        source: peer,
        sourceWorkload: source,
        sourceIdentity: null,
        destination: target,
        original: formatSocketAddr(target),
        destinationWorkload: local,
        destinationIdentity: recordIdentity(local),
        service,
        via: null,
      },
    );
    pod.live.add(this); // before policy is asked: a change in between must find it
  }

  start(keepsSource: boolean): void {
    const failure = this.#ask(false);
    if (failure !== null) return this.end(failure);
    const socket = connectToApp(this.#pod, this.#target, keepsSource ? this.#conn.sourceIp : null);
    const target = formatSocketAddr(this.#target);
    if (socket.kind === "failed") return this.end(failureOfConnect(socket.errno, target));
    this.#splice = new TcpSplice(this.#pod.context.reactor, this.#fd, socket.fd, false, {
      onConnected: () => {},
      onOver: (errno) => this.#over(errno === 0 ? this.#atEnd : failureOfConnect(errno, target)),
    });
    this.connection.countedBy(this.#splice);
  }

  recheck(): void {
    const failure = this.#ask(true);
    if (failure !== null) this.end(failure);
  }

  end(failure: Failure): void {
    this.#failure ??= failure;
    if (this.#splice !== null) return this.#splice.close();
    closeWithReset(this.#fd);
    this.#over(null);
  }

  get #atEnd(): Failure | null {
    return this.#splice?.isClientReset === true ? CLIENT_RESET : null;
  }

  /** Null: allowed. */
  #ask(isChange: boolean): Failure | null {
    const policies = this.#pod.context.tables.policiesFor(this.#pod.workload ?? this.#local);
    const verdict = authorize(policies, this.#conn);
    if (verdict.kind === "allow") {
      this.connection.policy = verdict.by;
      this.connection.verdict = "allowed";
      return null;
    }
    const failure = failureOfVerdict(verdict, policies, this.#conn, isChange);
    this.connection.verdict = "denied";
    this.connection.policy = failure.policy ?? null;
    return failure;
  }

  #over(failure: Failure | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { telemetry } = this.#pod.context;
    this.#pod.live.delete(this);
    telemetry.socketsOpen.destination--;
    telemetry.close(this.connection, this.#failure ?? failure);
  }
}
