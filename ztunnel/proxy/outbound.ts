// A connection that a captured pod opens (15001): decided once, then spliced into a tunnel
// (outbound-tunnel.ts) or passed on in plaintext (outbound-plain.ts). The decision itself is
// lib/model/outbound.ts.
import { formatSocketAddr, isLoopback, type SocketAddr, tryParseIp } from "#lib/net/ip.ts";
import { OWN_PORTS } from "#lib/net/ports.ts";
import { decideOutbound, type OutboundDecision } from "#lib/model/outbound.ts";
import { SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { closeWithReset, originalDst } from "#lib/sys/socket.ts";
import type { Failure } from "#lib/proxy/telemetry/connection.ts";
import { openPlain, refuseOutgoing } from "./outbound-plain.ts";
import { OutboundTunnel } from "./outbound-tunnel.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Pod } from "./pod.ts";

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
  if (workload !== null) return decide({ pod, fd, peer, destination, source: workload });
  pod.whenKnown((arrived) => {
    if (arrived === null)
      return refuse({
        flag: "CONNECT",
        reason: "unknown_source",
        detail: `istiod has not sent a record for pod ${pod.info.namespace}/${pod.info.name} (service account ${pod.info.serviceAccount})`,
      });
    decide({ pod, fd, peer, destination, source: arrived });
  });
}

function decide(o: Outgoing): void {
  const { tables, config, random } = o.pod.context;
  const decision = decideOutbound(tables, {
    source: o.source,
    sourceIp: o.peer.ip,
    destination: o.destination,
    network: config.network,
    random,
  });
  carryOut(o, decision);
}

function carryOut(o: Outgoing, decision: OutboundDecision): void {
  switch (decision.kind) {
    case "hbone":
      return new OutboundTunnel(o, decision).start();
    case "tcp":
      return openPlain(o, decision);
    case "resolve":
      o.pod.context.telemetry.lookedUp(o.source, decision.hostname);
      return o.pod.context.resolve(decision.hostname, decision.prefer, (text) => {
        const ip = text === null ? null : tryParseIp(text);
        if (ip !== null) return carryOut(o, decision.complete(ip));
        refuseOutgoing(o, {
          reason: "no_address",
          detail: `${decision.hostname} cannot be resolved`,
          service: decision.service,
        });
      });
    case "reject":
      return refuseOutgoing(o, decision);
    default:
      return decision satisfies never;
  }
}
