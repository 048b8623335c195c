// What becomes of a connection that arrives at a captured pod: acceptable or not, and which local port it ends at.
// Policy is asked afterwards, with the address decided here. Sections 7.1 and 7.2 of the HBONE contract (README.md).
import { formatSocketAddr, isIpv6, type Ip, type SocketAddr } from "../net/ip.ts";
import { OWN_PORTS } from "../net/ports.ts";
import { authorityOrRefusal, refuse, type Refusal } from "./refusal.ts";
import { serviceKey, type Service } from "./service.ts";
import type { MeshTables } from "./tables.ts";
import type { Reason } from "./tunnel.ts";
import type { GatewayAddress, Workload } from "./workload.ts";

export interface InboundHboneRequest {
  /** The workload of the pod whose listener accepted; null when its record has not come. */
  readonly local: Workload | null;
  /** The accepting socket's own address. */
  readonly localIp: Ip;
  /** `:authority` of the CONNECT, as received. */
  readonly authority: string;
  /** The node's NETWORK setting. */
  readonly network: string;
  readonly ownPorts?: ReadonlySet<number>;
  /** LOCALHOST_APP_TUNNEL: PROXY application tunnels connect over loopback. Default true. */
  readonly localhostAppTunnel?: boolean;
}

export type InboundHboneDecision =
  | {
      readonly kind: "forward";
      /** What policy is asked about: the pod's own address and the final port. */
      readonly policyTarget: SocketAddr;
      /** Where to connect; differs from `policyTarget` only for loopback application tunnels. */
      readonly connectTo: SocketAddr;
      /** Destination address for a PROXY v2 header to send after the 200; null: no header. */
      readonly proxyHeader: SocketAddr | null;
      readonly local: Workload;
    }
  | Refusal;

/** Authority, then the pod's record, then acceptability, then port: the order of the contract. */
export function decideInboundHbone(
  tables: MeshTables,
  r: InboundHboneRequest,
): InboundHboneDecision {
  const authority = authorityOrRefusal(r.authority);
  if (authority.kind === "refuse") return authority;
  const { local } = r;
  if (local === null)
    return refuse(503, "unknown_source", `the record of the pod at ${r.localIp} has not arrived`);
  if (authority.kind === "ip" && !isAcceptable(tables, authority.ip, local, r))
    return refuse(
      400,
      "ip_mismatch",
      `CONNECT asks for ${r.authority}, but this is ${r.localIp} (${local.uid}) and no waypoint of that address`,
    );
  const service =
    authority.kind === "ip" ? null : tables.findServiceByHostname(authority.host, local.namespace);
  if (authority.kind === "host" && service === null)
    return refuse(
      503,
      "unknown_hostname",
      `no service named ${authority.host} is visible from namespace ${local.namespace}`,
    );
  const asked = authority.port;
  const port = service === null ? asked : servicePort(service, local, asked);
  if (port === 0)
    return refuse(
      503,
      "no_port",
      `port ${asked} of ${service === null ? r.authority : serviceKey(service)} leads to no port of ${local.uid}`,
    );
  if ((r.ownPorts ?? OWN_PORTS).has(port))
    return refuse(503, "self_call", `port ${port} of ${local.uid} is a port of the proxy itself`);

  const tunnel = local.applicationTunnel;
  const policyTarget = { ip: r.localIp, port: tunnel?.port ?? port };
  if (tunnel?.protocol !== "PROXY")
    return { kind: "forward", policyTarget, connectTo: policyTarget, proxyHeader: null, local };
  const proxyIp =
    authority.kind === "ip" ? authority.ip : service === null ? null : vipFor(service, r.network);
  if (proxyIp === null)
    return refuse(
      503,
      "no_address",
      `service ${r.authority} has no address to name in the PROXY header for ${local.uid}`,
    );
  const loopback: Ip = (isIpv6(r.localIp) ? "::1" : "127.0.0.1") as Ip;
  const connectTo = {
    ip: (r.localhostAppTunnel ?? true) ? loopback : r.localIp,
    port: policyTarget.port,
  };
  return {
    kind: "forward",
    policyTarget,
    connectTo,
    proxyHeader: { ip: proxyIp, port: asked },
    local,
  };
}

export type PlaintextDecision =
  | { readonly kind: "forward"; readonly target: SocketAddr; readonly local: Workload }
  | { readonly kind: "drop"; readonly reason: Reason; readonly detail: string };

/** P1–P3: what arrives on 15006. Policy is asked next, without an identity; waypoints play no part. */
export function decidePlaintext(r: {
  readonly local: Workload | null;
  readonly originalDestination: SocketAddr;
  readonly ownPorts?: ReadonlySet<number>;
}): PlaintextDecision {
  const target = r.originalDestination;
  if ((r.ownPorts ?? OWN_PORTS).has(target.port))
    return {
      kind: "drop",
      reason: "self_call",
      detail: `${formatSocketAddr(target)} is a port of the proxy itself`,
    };
  if (r.local === null)
    return {
      kind: "drop",
      reason: "unknown_source",
      detail: `the record of the pod at ${target.ip} has not arrived`,
    };
  return { kind: "forward", target, local: r.local };
}

/**
 * The workload that connected, for telemetry only.
 * @param forwardedNetwork  `x-forwarded-network`; when it names another network the peer's address is a gateway's
 */
export function inboundSource(
  tables: MeshTables,
  r: { readonly network: string; readonly peerIp: Ip; readonly forwardedNetwork: string | null },
): Workload | null {
  if (cameThroughGateway(r.network, r.forwardedNetwork)) return null;
  return tables.findWorkload(r.network, r.peerIp);
}

export function cameThroughGateway(network: string, forwardedNetwork: string | null): boolean {
  return forwardedNetwork !== null && forwardedNetwork.toLowerCase() !== network.toLowerCase();
}

/**
 * The service a connection is accounted to: the one of the workload's services that the client called
 * (`forwarded: …;host=`), else the first that leads to the final port.
 */
export function inboundService(
  tables: MeshTables,
  local: Workload,
  finalPort: number,
  forwardedHost: string | null,
): Service | null {
  let leading: Service | null = null;
  for (const [key, ports] of local.services) {
    const service = tables.findServiceByKey(key);
    if (service === null) continue;
    if (forwardedHost !== null && service.hostname === forwardedHost) return service;
    if (leading === null && leadsTo(service, ports, finalPort)) leading = service;
  }
  return leading;
}

function leadsTo(service: Service, ports: ReadonlyMap<number, number>, port: number): boolean {
  for (const target of ports.values()) if (target === port) return true;
  for (const p of service.ports.values()) if (p.targetPort === port) return true;
  return false;
}

/** 7.1: its own address, anything behind an application tunnel, or a target this pod is the waypoint of. */
function isAcceptable(
  tables: MeshTables,
  ip: Ip,
  local: Workload,
  r: InboundHboneRequest,
): boolean {
  if (ip === r.localIp || local.applicationTunnel !== null) return true;
  const found = tables.findAddress(r.network, ip, null);
  if (found === null) return false;
  // Only the primary waypoint counts, as in Istio.
  const ref = found.kind === "service" ? found.service.waypoint : found.workload.waypoint;
  return ref !== null && isServedBy(tables, ref, local, r.localIp);
}

/** Whether the reference leads to `local`: as an endpoint of a service, or as the workload that owns the address. */
function isServedBy(
  tables: MeshTables,
  ref: GatewayAddress,
  local: Workload,
  localIp: Ip,
): boolean {
  const found = tables.resolveGateway(ref, null);
  if (found === null) return false;
  if (found.kind === "workload") return found.workload.addresses.includes(localIp);
  for (const w of tables.endpoints(found.service)) if (w.uid === local.uid) return true;
  return false;
}

/** This endpoint's mapping of a service port, else the service's numeric target; 0: none. */
function servicePort(service: Service, local: Workload, port: number): number {
  const mapped = local.services.get(serviceKey(service))?.get(port) ?? 0;
  return mapped !== 0 ? mapped : (service.ports.get(port)?.targetPort ?? 0);
}

/** Own network and IPv4, then own network, then any. */
function vipFor(service: Service, network: string): Ip | null {
  const own = service.vips.filter((v) => v.network === network);
  const chosen = own.find((v) => !isIpv6(v.ip)) ?? own[0] ?? service.vips[0];
  return chosen?.ip ?? null;
}
