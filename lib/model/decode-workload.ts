// istio.workload.Workload → Workload: defaults filled in, unusable resources refused.
import type { Ip } from "../net/ip.ts";
import type {
  ApplicationTunnel,
  Locality as LocalityMessage,
  PortList,
  Workload as WorkloadMessage,
} from "../wire/gen/workload.gen.ts";
import { decodeGateway, decodeIp, enumName, port16 } from "./decode-parts.ts";
import { ModelError } from "./errors.ts";
import type { DecodePools } from "./intern.ts";
import { NO_LOCALITY, type Locality, type PortMap, type Workload } from "./workload.ts";

const PROTOCOL = ["TCP", "HBONE"] as const;
const LEGACY_ISTIO_MTLS = 2;
const NETWORK_MODE = ["Standard", "HostNetwork"] as const;
const WORKLOAD_TYPE = ["deployment", "cronjob", "pod", "job"] as const;
const STATUS = ["Healthy", "Unhealthy"] as const;
const TUNNEL_PROTOCOL = ["NONE", "PROXY"] as const;

const NO_SERVICES: ReadonlyMap<string, PortMap> = new Map();
const NO_POLICIES: readonly string[] = Object.freeze([]);

/**
 * @throws {ModelError} for a missing uid, an address that is not 4 or 16 bytes, an unknown enum number
 *   (`workload_type` excepted: it only labels telemetry), the tunnel protocol LEGACY_ISTIO_MTLS, a gateway
 *   reference without destination, or a services key without `/`
 */
export function workloadFromMessage(m: WorkloadMessage, pools: DecodePools): Workload {
  if (m.uid === "") throw new ModelError("MISSING_FIELD", "Workload has no uid");
  if (m.tunnelProtocol === LEGACY_ISTIO_MTLS)
    throw new ModelError(
      "UNSUPPORTED",
      "tunnel_protocol LEGACY_ISTIO_MTLS is not for node proxies",
    );
  return {
    uid: m.uid,
    name: m.name,
    namespace: pools.text(m.namespace),
    addresses: addressesFrom(m.addresses),
    hostname: pools.text(m.hostname),
    network: pools.text(m.network),
    protocol: enumName("tunnel_protocol", PROTOCOL, m.tunnelProtocol),
    networkMode: enumName("network_mode", NETWORK_MODE, m.networkMode),
    trustDomain: pools.text(m.trustDomain === "" ? "cluster.local" : m.trustDomain),
    serviceAccount: pools.text(m.serviceAccount === "" ? "default" : m.serviceAccount),
    node: pools.text(m.node),
    waypoint: decodeGateway("waypoint", m.waypoint, pools),
    networkGateway: decodeGateway("network_gateway", m.networkGateway, pools),
    applicationTunnel: applicationTunnelFrom(m.applicationTunnel),
    nativeTunnel: m.nativeTunnel,
    canonicalName: pools.text(m.canonicalName),
    canonicalRevision: pools.text(m.canonicalRevision),
    workloadName: pools.text(m.workloadName),
    workloadType: WORKLOAD_TYPE[m.workloadType] ?? "deployment",
    authorizationPolicies: policyNamesFrom(m.authorizationPolicies, pools),
    status: enumName("status", STATUS, m.status),
    clusterId: pools.text(m.clusterId === "" ? "Kubernetes" : m.clusterId),
    locality: localityFrom(m.locality, pools),
    services: servicesFrom(m.services, pools),
    capacity: m.capacity ?? 1,
  };
}

function addressesFrom(addresses: readonly Uint8Array[]): readonly Ip[] {
  const [first] = addresses;
  // One address is by far the usual case; a literal of one is an array without spare room.
  if (addresses.length === 1 && first !== undefined) return [decodeIp("addresses[0]", first)];
  return addresses.map((bytes, i) => decodeIp(`addresses[${i}]`, bytes));
}

function applicationTunnelFrom(m: ApplicationTunnel | undefined): Workload["applicationTunnel"] {
  if (m === undefined) return null;
  const port = port16(m.port);
  return {
    protocol: enumName("application_tunnel.protocol", TUNNEL_PROTOCOL, m.protocol),
    port: port === 0 ? null : port,
  };
}

function localityFrom(m: LocalityMessage | undefined, pools: DecodePools): Locality {
  if (m === undefined) return NO_LOCALITY;
  const { region, zone, subzone } = m;
  const key = `${region}\n${zone}\n${subzone}`;
  return (
    pools.localities.find(key) ??
    pools.localities.add(key, Object.freeze({ region, zone, subzone }))
  );
}

function policyNamesFrom(names: readonly string[], pools: DecodePools): readonly string[] {
  if (names.length === 0) return NO_POLICIES;
  const key = names.join("\n");
  return pools.policyNames.find(key) ?? pools.policyNames.add(key, Object.freeze([...names]));
}

/** Pods of one Deployment have equal service maps, so the whole map is shared. */
function servicesFrom(
  services: ReadonlyMap<string, PortList>,
  pools: DecodePools,
): ReadonlyMap<string, PortMap> {
  if (services.size === 0) return NO_SERVICES;
  let key = "";
  for (const [name, list] of services) {
    if (!name.includes("/"))
      throw new ModelError("BAD_KEY", `services key ${JSON.stringify(name)} has no "/"`);
    key += name;
    for (const p of list.ports) key += ` ${p.servicePort}=${p.targetPort}`;
    key += "\n";
  }
  const known = pools.services.find(key);
  if (known !== undefined) return known;
  const made = new Map<string, PortMap>();
  for (const [name, list] of services) {
    const ports = new Map(list.ports.map((p) => [port16(p.servicePort), port16(p.targetPort)]));
    made.set(pools.text(name), ports);
  }
  return pools.services.add(key, made);
}
