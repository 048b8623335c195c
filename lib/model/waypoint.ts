// What becomes of a connection that arrives at a waypoint: whether what it asks for is bound to this waypoint, and
// which backend it gets. Policy is asked in between, about the address that was asked for.
// Source: Istio's waypoint listeners and clusters (pilot/pkg/networking/core/{listener,cluster}_waypoint.go).
import type { Random } from "../base/clock.ts";
import { formatSocketAddr, type Ip, type SocketAddr } from "../net/ip.ts";
import { OWN_PORTS, PORT } from "../net/ports.ts";
import { authorityOrRefusal, refuse, type Refusal } from "./refusal.ts";
import type { HboneDecision, TcpDecision } from "./outbound.ts";
import { chooseIp, pickEndpoint } from "./pick-endpoint.ts";
import { serviceKey, type Service } from "./service.ts";
import type { MeshTables } from "./tables.ts";
import type { Reason } from "./tunnel.ts";
import { whyNone } from "./upstream.ts";
import { expectedIdentities } from "./waypoint-hop.ts";
import type { GatewayAddress, Workload } from "./workload.ts";

export interface ArrivalRequest {
  /** The waypoint's own record, healthy or not; null when it has not come. */
  readonly self: Workload | null;
  /** `:authority` of the CONNECT, as received. */
  readonly authority: string;
}

/** What a bound connection is for. */
export interface Arrival {
  readonly kind: "serve";
  /** Null when it is addressed to a pod. */
  readonly service: Service | null;
  /** The pod it is addressed to; null for a service. */
  readonly workload: Workload | null;
  /** The address that was asked for: what policy is asked about, port of the service included. */
  readonly target: SocketAddr;
}

export type ArrivalDecision = Arrival | Refusal;

/** Virtual addresses first, then pods, then host names; what is not bound here is refused. */
export function decideArrival(tables: MeshTables, r: ArrivalRequest): ArrivalDecision {
  const authority = authorityOrRefusal(r.authority);
  if (authority.kind === "refuse") return authority;
  const { self } = r;
  if (self === null)
    return refuse(503, "unknown_source", "the waypoint's own record has not arrived");
  const { port } = authority;
  if (authority.kind === "host") return byHostname(tables, self, authority.host, port);
  const { ip } = authority;
  const candidates = tables.servicesAt(self.network, ip, self.namespace);
  const inRange = tables.serviceAt(self.network, ip, self.namespace);
  if (inRange !== null && !candidates.includes(inRange)) candidates.push(inRange);
  const bound = candidates.filter((service) => isServiceBound(tables, service, self));
  if (bound.length > 0) return toService(bound, { ip, port });
  const workload = tables.findWorkload(self.network, ip);
  if (workload !== null && isBound(tables, workload.waypoint, self)) {
    if (OWN_PORTS.has(port))
      return refuse(503, "self_call", `port ${port} of ${workload.uid} is a port of the mesh`);
    return { kind: "serve", service: null, workload, target: { ip, port } };
  }
  const [other] = candidates;
  return notBound(r.authority, other === undefined ? workload?.uid : serviceKey(other));
}

/** Only for what no policy about addresses could slip past: a service without an address is not served by name. */
function byHostname(
  tables: MeshTables,
  self: Workload,
  host: string,
  port: number,
): ArrivalDecision {
  const service = tables.findServiceByHostname(host, self.namespace);
  if (service === null)
    return refuse(503, "unknown_hostname", `no service named ${host} is visible from here`);
  if (!isServiceBound(tables, service, self)) return notBound(host, serviceKey(service));
  const ip = (service.vips.find((vip) => vip.network === self.network) ?? service.vips[0])?.ip;
  if (ip === undefined)
    return refuse(503, "no_address", `service ${serviceKey(service)} has no address`);
  return toService([service], { ip, port });
}

function toService(bound: readonly Service[], target: SocketAddr): ArrivalDecision {
  const service = bound.find((s) => s.ports.has(target.port)) ?? bound[0];
  if (service?.ports.has(target.port) === true)
    return { kind: "serve", service, workload: null, target };
  const name = service === undefined ? "" : serviceKey(service);
  const ports = [...(service?.ports.keys() ?? [])].join(", ") || "none";
  return refuse(
    503,
    "no_port",
    `service ${name} has no port ${target.port}; it has ports: ${ports}`,
  );
}

function isServiceBound(tables: MeshTables, service: Service, self: Workload): boolean {
  if (isBound(tables, service.waypoint, self)) return true;
  return service.weightedWaypoints.some((w) => isBound(tables, w.destination, self));
}

/**
 * Whether a reference leads to this waypoint. Asked of its own record rather than of the service's endpoints: a
 * waypoint that is not ready (yet, or any more) is no endpoint, and still serves whoever comes.
 */
function isBound(tables: MeshTables, ref: GatewayAddress | null, self: Workload): boolean {
  const found = ref === null ? null : tables.resolveGateway(ref, self.namespace);
  if (found === null) return false;
  return found.kind === "service"
    ? self.services.has(serviceKey(found.service))
    : found.workload.uid === self.uid;
}

export interface BackendRequest {
  readonly self: Workload;
  readonly arrival: Arrival;
  /** Backends that have failed for this connection. */
  readonly tried: ReadonlySet<string>;
  readonly random: Random;
}

export type Backend =
  | HboneDecision
  | TcpDecision
  | {
      readonly kind: "resolve";
      readonly hostname: string;
      readonly prefer: "ipv4" | "ipv6";
      readonly destination: Workload;
      readonly complete: (ip: Ip) => HboneDecision | TcpDecision;
    }
  | { readonly kind: "none"; readonly reason: Reason; readonly detail: string };

/** Draws in which one that was not tried yet is looked for. */
const MAX_DRAWS = 16;

/** A backend's own waypoint is not asked about: waypoints never chain. */
export function chooseBackend(tables: MeshTables, r: BackendRequest): Backend {
  const { service, workload, target } = r.arrival;
  if (workload !== null) return toWorkload(r, workload, target.port);
  if (service === null) return none("no_healthy_upstream", "the connection is for nothing");
  if (service.loadBalancing.mode === "Passthrough") {
    const there = tables.findWorkload(r.self.network, target.ip);
    return there === null
      ? { kind: "tcp", address: target, destination: null, service }
      : toWorkload(r, there, target.port);
  }
  for (let draw = 0; draw < MAX_DRAWS; draw++) {
    const pick = pickEndpoint(tables, {
      service,
      port: target.port,
      source: r.self,
      mode: "standard",
      random: r.random,
    });
    if (pick.kind === "none")
      return none("no_healthy_upstream", whyNone(service, target.port, pick.why));
    if (!r.tried.has(pick.workload.uid)) return toWorkload(r, pick.workload, pick.port);
  }
  return none("no_healthy_upstream", `no other endpoint of ${serviceKey(service)} is left`);
}

function toWorkload({ self, arrival }: BackendRequest, workload: Workload, port: number): Backend {
  const { service, target } = arrival;
  if (workload.network !== self.network)
    return none(
      "no_healthy_upstream",
      `${workload.uid} is on network ${JSON.stringify(workload.network)}, the waypoint on ${JSON.stringify(self.network)}: double hbone not supported yet`,
    );
  const at = chooseIp(workload, target.ip, service);
  const complete = (ip: Ip): HboneDecision | TcpDecision =>
    workload.protocol === "TCP"
      ? { kind: "tcp", address: { ip, port }, destination: workload, service }
      : {
          kind: "hbone",
          nextHop: { ip, port: PORT.hbone },
          authority: formatSocketAddr({ ip, port }),
          expectedIdentities: expectedIdentities(workload, service),
          via: null,
          destination: workload,
          upstream: workload,
          service,
        };
  if (at.kind === "ip") return complete(at.ip);
  if (at.kind === "none")
    return none(
      "no_address",
      `workload ${workload.uid} has no address of a usable family and no host name`,
    );
  const prefer = target.ip.includes(":") ? "ipv6" : "ipv4";
  return { kind: "resolve", hostname: at.hostname, prefer, destination: workload, complete };
}

function notBound(authority: string, what: string | undefined): Refusal {
  return refuse(
    400,
    "not_bound",
    `${authority}${what === undefined ? " is nothing the mesh knows" : ` is ${what}`}, which is not bound to this waypoint`,
  );
}

function none(reason: Reason, detail: string): Backend {
  return { kind: "none", reason, detail };
}
