// Where a captured connection goes: the whole decision for one application connection, without touching a socket.
// Numbered tests O1…O16 are those of the node proxy's decision table (README.md). First match wins.
import type { Random } from "../base/clock.ts";
import { formatSocketAddr, isIpv6, isLoopback, type Ip, type SocketAddr } from "../net/ip.ts";
import { OWN_PORTS, PORT } from "../net/ports.ts";
import type { SpiffeId } from "../net/spiffe.ts";
import { chooseIp, type IpChoice } from "./pick-endpoint.ts";
import { serviceKey, type Service } from "./service.ts";
import {
  serviceObject,
  workloadObject,
  type Stage,
  type StageId,
  type StageObject,
} from "./stage.ts";
import type { MeshTables } from "./tables.ts";
import type { Reason } from "./tunnel.ts";
import { chooseUpstream } from "./upstream.ts";
import {
  drawWaypoint,
  expectedIdentities,
  formatGateway,
  isBehind,
  resolveHop,
  type GatewayHop,
} from "./waypoint-hop.ts";
import { identityOf, type GatewayAddress, type Workload } from "./workload.ts";

export interface OutboundRequest {
  /** The workload of the pod that connects. */
  readonly source: Workload;
  readonly sourceIp: Ip;
  /** What the application dialled. */
  readonly destination: SocketAddr;
  /** The node's NETWORK setting. */
  readonly network: string;
  readonly random: Random;
  /** Ports of the proxy itself inside pods; 15080 joins them when SOCKS5 is on. */
  readonly ownPorts?: ReadonlySet<number>;
}

export interface Via {
  readonly kind: "waypoint";
  readonly namespace: string;
  readonly name: string;
}

export interface HboneDecision {
  readonly kind: "hbone";
  readonly nextHop: SocketAddr;
  /** `:authority` of the CONNECT. */
  readonly authority: string;
  /** The peer's certificate must carry one of these. In order: part of the pool's key. */
  readonly expectedIdentities: readonly SpiffeId[];
  /** The waypoint that terminates this tunnel, or null. */
  readonly via: Via | null;
  /** What telemetry calls the destination: the waypoint's or the endpoint's workload. */
  readonly destination: Workload;
  /** The endpoint, when this node chose it; null when a waypoint will. */
  readonly upstream: Workload | null;
  /** The service that was called, or null for a workload address. */
  readonly service: Service | null;
}

export interface TcpDecision {
  readonly kind: "tcp";
  readonly address: SocketAddr;
  readonly destination: Workload | null;
  readonly service: Service | null;
}

export type OutboundDecision =
  | HboneDecision
  | TcpDecision
  /** The next hop only has a host name: look it up, then go on with `complete(address)`. */
  | {
      readonly kind: "resolve";
      readonly hostname: string;
      /** Family of the application's connection; the other one serves when this one has no record. */
      readonly prefer: "ipv4" | "ipv6";
      readonly destination: Workload;
      readonly service: Service | null;
      readonly complete: (ip: Ip) => HboneDecision | TcpDecision;
    }
  | {
      readonly kind: "reject";
      readonly reason: Reason;
      /** One sentence: what failed, for which object, and what would help. */
      readonly detail: string;
      readonly service: Service | null;
    };

/**
 * Decides for one connection. Pure but for `random`, which draws waypoint and endpoint.
 * @param evidence  when given, every stage taken is appended to it
 */
export function decideOutbound(
  tables: MeshTables,
  request: OutboundRequest,
  evidence: Stage[] | null = null,
): OutboundDecision {
  return new Decision(tables, request, evidence).decide();
}

class Decision {
  readonly #tables: MeshTables;
  readonly #r: OutboundRequest;
  readonly #evidence: Stage[] | null;

  constructor(tables: MeshTables, request: OutboundRequest, evidence: Stage[] | null) {
    this.#tables = tables;
    this.#r = request;
    this.#evidence = evidence;
  }

  decide(): OutboundDecision {
    const { source, destination, network, random, ownPorts = OWN_PORTS } = this.#r;
    // O1: the proxy calling its own listener would never end.
    if (isLoopback(destination.ip) && ownPorts.has(destination.port))
      return this.#reject(
        "S1",
        "self_call",
        `${formatSocketAddr(destination)} is a port of the proxy itself`,
        null,
      );

    // O3–O7
    const found = this.#tables.findAddress(network, destination.ip, source.namespace);
    const service = found?.kind === "service" ? found.service : null;
    this.#noteTarget(service, found?.kind === "workload" ? found.workload : null);
    if (service !== null) {
      const ref = drawWaypoint(service, random);
      if (ref !== null)
        return this.#toWaypoint("S3", ref, service, null, `service ${serviceKey(service)}`);
      this.#note("S3", "pass", "service has no waypoint", serviceObject(service));
    }
    return this.#toUpstream(service);
  }

  /** O8–O16. `service` is Q of the table. */
  #toUpstream(service: Service | null): OutboundDecision {
    const { source, destination } = this.#r;
    const upstream = chooseUpstream(this.#tables, this.#r);
    if (upstream.kind === "failed")
      return this.#reject(
        "S4",
        "no_healthy_upstream",
        upstream.detail,
        service ?? upstream.service,
      ); // O9
    if (upstream.kind === "original") {
      this.#note("S4", "choose", `plain TCP to ${formatSocketAddr(destination)}: ${upstream.why}`);
      return { kind: "tcp", address: destination, destination: null, service }; // O10
    }
    const { workload, port, through } = upstream;
    this.#note("S4", "choose", `endpoint ${workload.uid}, port ${port}`, workloadObject(workload));
    if (workload.network !== source.network)
      return this.#toOtherNetwork("S4", workload, service, `endpoint ${workload.uid}`); // O11, O12

    // O13: only for traffic addressed to the workload itself, and not from that waypoint.
    const ref = workload.waypoint;
    if (service === null && ref !== null && !this.#isFromWaypoint(ref))
      return this.#toWaypoint("S5", ref, null, workload, `workload ${workload.uid}`);
    if (service === null)
      this.#note(
        "S5",
        "pass",
        ref === null ? "workload has no waypoint" : "this connection comes from its waypoint",
      );

    const at = chooseIp(workload, destination.ip, through);
    if (at.kind === "none")
      return this.#reject(
        "S6",
        "no_address",
        `workload ${workload.uid} has no address of a usable family and no host name`,
        service,
      ); // O14
    if (workload.protocol === "TCP") {
      this.#note(
        "S6",
        "choose",
        `plain TCP: ${workload.uid} is not in the mesh`,
        workloadObject(workload),
      ); // O16
      return this.#dial(at, workload, service, (ip) => ({
        kind: "tcp",
        address: { ip, port },
        destination: workload,
        service,
      }));
    }
    this.#note(
      "S6",
      "choose",
      `HBONE to ${workload.uid}, application port ${port}`,
      workloadObject(workload),
    ); // O15
    return this.#dial(at, workload, service, (ip) => ({
      kind: "hbone",
      nextHop: { ip, port: PORT.hbone },
      authority: formatSocketAddr({ ip, port }),
      expectedIdentities: expectedIdentities(workload, through),
      via: null,
      destination: workload,
      upstream: workload,
      service,
    }));
  }

  /** O5–O7 and O13: never around a waypoint that is configured. */
  #toWaypoint(
    stage: StageId,
    ref: GatewayAddress,
    service: Service | null,
    upstream: Workload | null,
    owner: string,
  ): OutboundDecision {
    const { source, destination, random } = this.#r;
    const result = resolveHop(this.#tables, ref, { source, called: destination.ip, random });
    const name = `waypoint ${formatGateway(ref)}`;
    if (result.kind === "failed")
      return this.#reject(
        stage,
        "unknown_waypoint",
        `${name} of ${owner} ${result.why}; a configured waypoint is never bypassed: restore it or remove the istio.io/use-waypoint label`,
        service,
      );
    const { hop } = result;
    if (hop.workload.network !== source.network)
      return this.#toOtherNetwork(stage, hop.workload, service, name);
    if (hop.at.kind === "none")
      return this.#reject(
        stage,
        "no_address",
        `${name} chose ${hop.workload.uid}, which has no address`,
        service,
      );
    const via = viaOf(hop);
    this.#note(stage, "choose", `HBONE to ${name}, pod ${hop.workload.uid}`, {
      ...via,
      kind: "Waypoint",
    });
    return this.#dial(hop.at, hop.workload, service, (ip) => ({
      kind: "hbone",
      nextHop: { ip, port: hop.port },
      authority: formatSocketAddr(destination),
      expectedIdentities: expectedIdentities(hop.workload, hop.service),
      via,
      destination: hop.workload,
      upstream,
      service,
    }));
  }

  /** The gateway path: a tunnel within a tunnel, to the gateway of the other network. Not spoken yet. */
  #toOtherNetwork(
    stage: StageId,
    hop: Workload,
    service: Service | null,
    what: string,
  ): OutboundDecision {
    const where = `${what} is on network ${JSON.stringify(hop.network)}, the source on ${JSON.stringify(this.#r.source.network)}`;
    if (service === null || hop.networkGateway === null)
      return this.#reject(
        stage,
        "no_healthy_upstream",
        `${where}, and ${service === null ? "the call names no service" : "no gateway leads there"}`,
        service,
      );
    return this.#reject(
      stage,
      "no_healthy_upstream",
      `${where}: double hbone not supported yet`,
      service,
    );
  }

  /** Whether the source is one of the workloads behind the waypoint: same identity, at the connection's address. */
  #isFromWaypoint(ref: GatewayAddress): boolean {
    const { source, sourceIp } = this.#r;
    const identity = identityOf(source);
    return isBehind(
      this.#tables,
      ref,
      source.namespace,
      (w) => w.addresses.includes(sourceIp) && identityOf(w) === identity,
    );
  }

  #dial(
    at: Exclude<IpChoice, { kind: "none" }>,
    destination: Workload,
    service: Service | null,
    complete: (ip: Ip) => HboneDecision | TcpDecision,
  ): OutboundDecision {
    if (at.kind === "ip") return complete(at.ip);
    const prefer = isIpv6(this.#r.destination.ip) ? "ipv6" : "ipv4";
    return { kind: "resolve", hostname: at.hostname, prefer, destination, service, complete };
  }

  #noteTarget(service: Service | null, workload: Workload | null): void {
    const target = formatSocketAddr(this.#r.destination);
    if (service !== null)
      this.#note(
        "S2",
        "choose",
        `${target} is service ${serviceKey(service)}`,
        serviceObject(service),
      );
    else if (workload !== null)
      this.#note("S2", "choose", `${target} is workload ${workload.uid}`, workloadObject(workload));
    else this.#note("S2", "pass", `${target} is not known to the mesh`);
  }

  #note(id: StageId, result: Stage["result"], detail: string, ...objects: StageObject[]): void {
    this.#evidence?.push({ id, result, detail, objects });
  }

  #reject(
    stage: StageId,
    reason: Reason,
    detail: string,
    service: Service | null,
  ): OutboundDecision {
    this.#note(stage, "stop", detail, ...(service === null ? [] : [serviceObject(service)]));
    return { kind: "reject", reason, detail, service };
  }
}

function viaOf(hop: GatewayHop): Via {
  const { service, workload } = hop;
  const name =
    service?.name ?? (workload.workloadName === "" ? workload.name : workload.workloadName);
  return { kind: "waypoint", namespace: service?.namespace ?? workload.namespace, name };
}
