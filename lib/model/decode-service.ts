// istio.workload.Service → Service: VIPs split into single addresses and ranges, unusable resources refused.
import type {
  LoadBalancing as LoadBalancingMessage,
  Service as ServiceMessage,
} from "../wire/gen/workload.gen.ts";
import { decodeCidr, decodeGateway, decodeIp, enumName, port16 } from "./decode-parts.ts";
import { ModelError } from "./errors.ts";
import type { DecodePools } from "./intern.ts";
import {
  DEFAULT_LOAD_BALANCING,
  type LoadBalancing,
  type Scope,
  type Service,
  type ServicePort,
} from "./service.ts";

const SCOPE = [null, "Region", "Zone", "Subzone", "Node", "Cluster", "Network"] as const;
const MODE = ["Standard", "Strict", "Failover", "Passthrough"] as const;
const HEALTH_POLICY = ["OnlyHealthy", "AllowAll"] as const;
const IP_FAMILIES = ["Automatic", "IPv4Only", "IPv6Only", "Dual"] as const;
const APP_PROTOCOL = ["UNKNOWN", "HTTP11", "HTTP2", "GRPC", "TCP", "TLS"] as const;
const VISIBILITY_NAMESPACE = 1;

/**
 * @throws {ModelError} for a missing hostname, an address of another length or with an impossible prefix, an
 *   unknown enum number (`app_protocol` and `visibility` excepted), a listed UNSPECIFIED_SCOPE, or a gateway
 *   reference without destination
 */
export function serviceFromMessage(m: ServiceMessage, pools: DecodePools): Service {
  if (m.hostname === "") throw new ModelError("MISSING_FIELD", "Service has no hostname");
  return {
    name: m.name,
    namespace: pools.text(m.namespace),
    hostname: pools.text(m.hostname),
    ...vipsFrom(m, pools),
    ports: portsFrom(m),
    subjectAltNames: m.subjectAltNames,
    waypoint: decodeGateway("waypoint", m.waypoint, pools),
    weightedWaypoints: m.weightedWaypoints.map((w, i) => ({
      destination: requireGateway(`weighted_waypoints[${i}].destination`, w.destination, pools),
      weight: w.weight,
    })),
    ingressUseWaypoint: m.ingressUseWaypoint,
    loadBalancing: loadBalancingFrom(m.loadBalancing),
    ipFamilies: enumName("ip_families", IP_FAMILIES, m.ipFamilies),
    canonical: m.canonical,
    // An unknown visibility is public (Istio parity).
    visibility: m.visibility === VISIBILITY_NAMESPACE ? "Namespace" : "Public",
  };
}

/** An absent or full prefix length is a single address; a shorter one is a range. */
function vipsFrom(m: ServiceMessage, pools: DecodePools): Pick<Service, "vips" | "cidrVips"> {
  const vips: Service["vips"][number][] = [];
  const cidrVips: Service["cidrVips"][number][] = [];
  m.addresses.forEach(({ network, address, length }, i) => {
    const field = `addresses[${i}]`;
    const ip = decodeIp(field, address);
    const shared = pools.text(network);
    if (length === undefined || length === address.length * 8) vips.push({ network: shared, ip });
    else cidrVips.push({ network: shared, cidr: decodeCidr(field, address, length) });
  });
  return { vips, cidrVips };
}

function portsFrom(m: ServiceMessage): ReadonlyMap<number, ServicePort> {
  const ports = new Map<number, ServicePort>();
  for (const p of m.ports)
    ports.set(port16(p.servicePort), {
      targetPort: port16(p.targetPort),
      appProtocol: APP_PROTOCOL[p.appProtocol] ?? "UNKNOWN",
    });
  return ports;
}

function loadBalancingFrom(m: LoadBalancingMessage | undefined): LoadBalancing {
  if (m === undefined) return DEFAULT_LOAD_BALANCING;
  return {
    preferences: m.routingPreference.map((value): Scope => {
      const scope = SCOPE[value];
      if (scope === null || scope === undefined)
        throw new ModelError("UNKNOWN_ENUM", `load_balancing lists the unknown scope ${value}`);
      return scope;
    }),
    mode: enumName("load_balancing.mode", MODE, m.mode),
    healthPolicy: enumName("load_balancing.health_policy", HEALTH_POLICY, m.healthPolicy),
  };
}

function requireGateway(
  field: string,
  m: Parameters<typeof decodeGateway>[1],
  pools: DecodePools,
): Service["weightedWaypoints"][number]["destination"] {
  const gateway = decodeGateway(field, m, pools);
  if (gateway === null) throw new ModelError("MISSING_FIELD", `${field} is not set`);
  return gateway;
}
