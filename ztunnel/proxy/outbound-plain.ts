// An application's connection that gets no tunnel: passed on in plaintext, or refused.
import { HboneError } from "#lib/hbone/errors.ts";
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import type { OutboundDecision, TcpDecision } from "#lib/model/outbound.ts";
import type { Service } from "#lib/model/service.ts";
import type { Workload } from "#lib/model/workload.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { closeWithReset, connectFd } from "#lib/sys/socket.ts";
import type { Connection, Failure } from "#lib/proxy/telemetry/connection.ts";
import { CLIENT_RESET, failureOfConnect, failureOfTunnel } from "#lib/proxy/telemetry/failures.ts";
import { TcpSplice } from "#lib/proxy/tcp-splice.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import type { Outgoing } from "./outgoing.ts";
import { podSocket } from "./pod-socket.ts";

/** Decided against: counted and told like any connection, then reset. */
export function refuseOutgoing(
  o: Outgoing,
  decision: Omit<Extract<OutboundDecision, { kind: "reject" }>, "kind">,
): void {
  const c = openBooks(o, o.destination, null, decision.service);
  giveUp(o, c, { flag: "CONNECT", reason: decision.reason, detail: decision.detail });
}

/** Plaintext to what is not in the mesh. */
export function openPlain(o: Outgoing, decision: TcpDecision): void {
  const { telemetry, reactor } = o.pod.context;
  const c = openBooks(o, decision.address, decision.destination, decision.service);
  const target = formatSocketAddr(decision.address);
  let far: number;
  try {
    far = podSocket(o.pod, decision.address);
  } catch (error) {
    if (!(error instanceof HboneError)) throw error;
    return giveUp(o, c, failureOfTunnel(error));
  }
  const errno = connectFd(far, decision.address);
  if (errno !== 0) {
    closeFd(far);
    return giveUp(o, c, failureOfConnect(errno, target));
  }
  let failure: Failure | null = null;
  const splice = new TcpSplice(reactor, o.fd, far, true, {
    onConnected: () => {
      c.verdict = "allowed";
    },
    onOver: (connectErrno) => {
      o.pod.live.delete(live);
      telemetry.socketsOpen.source--;
      const atEnd = splice.isClientReset ? CLIENT_RESET : null;
      telemetry.close(
        c,
        failure ?? (connectErrno === 0 ? atEnd : failureOfConnect(connectErrno, target)),
      );
    },
  });
  c.countedBy(splice);
  const live: Live = {
    connection: c,
    tunnel: null,
    recheck: () => {}, // policy is asked at the destination
    end: (why) => {
      failure ??= why;
      splice.close();
    },
  };
  o.pod.live.add(live);
}

function giveUp(o: Outgoing, c: Connection, failure: Failure): void {
  const { telemetry } = o.pod.context;
  closeWithReset(o.fd);
  telemetry.socketsOpen.source--;
  telemetry.close(c, failure);
}

/** Opens the books of a connection that goes no further, or on in plaintext. */
function openBooks(
  o: Outgoing,
  target: SocketAddr,
  destination: Workload | null,
  service: Service | null,
): Connection {
  return o.pod.context.telemetry.open(
    {
      reporter: "source",
      source: o.source,
      sourceIdentity: null,
      destination,
      service,
      isMutualTls: false,
    },
    {
      direction: "outbound",
      protocol: "TCP",
      source: o.peer,
      sourceWorkload: o.source,
      sourceIdentity: null,
      destination: target,
      original: formatSocketAddr(o.destination),
      destinationWorkload: destination,
      destinationIdentity: null,
      service,
      via: null,
    },
  );
}
