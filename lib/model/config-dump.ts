// The tables as JSON in the shape `istioctl ztunnel-config` reads: camelCase, PascalCase enums, keys sorted, most
// empty fields left out. Source: istio/ztunnel src/admin.rs and the serde shapes of src/state.
import { formatCidr, type Cidr } from "../net/cidr.ts";
import type { Authorization, Match, ServiceAccountMatch, StringMatch } from "./authorization.ts";
import { DEFAULT_LOAD_BALANCING, serviceKey, type Service } from "./service.ts";
import type { MeshTables } from "./tables.ts";
import { formatGateway } from "./waypoint-hop.ts";
import type { GatewayAddress, PortMap, Workload } from "./workload.ts";

export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };
type JsonObject = { readonly [key: string]: Json };

export interface TablesDump {
  readonly policies: readonly JsonObject[];
  readonly services: readonly JsonObject[];
  /** `namespace/hostname` → uid → endpoint. */
  readonly stagedServices: JsonObject;
  readonly workloads: readonly JsonObject[];
}

/** Workloads by uid, services by host name, policies by key. */
export function dumpTables(tables: MeshTables): TablesDump {
  const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  const workloads = [...tables.workloads()].sort((a, b) => byText(a.uid, b.uid));
  const services = [...tables.services()].sort(
    (a, b) => byText(a.hostname, b.hostname) || byText(a.namespace, b.namespace),
  );
  const policies = [...tables.policies()].sort((a, b) => byText(a.key, b.key));
  return {
    policies: policies.map(dumpPolicy),
    services: services.map((s) => dumpService(s, tables.endpoints(s))),
    stagedServices: sorted(
      Object.fromEntries(
        [...tables.stagedServices()].map(([key, ws]) => [key, dumpEndpoints(key, ws)]),
      ),
    ),
    workloads: workloads.map(dumpWorkload),
  };
}

function dumpWorkload(w: Workload): JsonObject {
  const { region, zone, subzone } = w.locality;
  const tunnel = w.applicationTunnel;
  return sorted({
    applicationTunnel:
      tunnel === null ? undefined : filled({ port: tunnel.port, protocol: tunnel.protocol }),
    authorizationPolicies: nonEmpty(w.authorizationPolicies),
    canonicalName: w.canonicalName,
    canonicalRevision: w.canonicalRevision,
    capacity: w.capacity,
    clusterId: w.clusterId,
    hostname: text(w.hostname),
    locality: region + zone + subzone === "" ? undefined : sorted({ region, subzone, zone }),
    name: w.name,
    namespace: w.namespace,
    nativeTunnel: w.nativeTunnel || undefined,
    network: text(w.network),
    networkGateway: dumpGateway(w.networkGateway),
    networkMode: w.networkMode === "Standard" ? undefined : w.networkMode,
    node: text(w.node),
    protocol: w.protocol,
    serviceAccount: w.serviceAccount,
    services: nonEmpty([...w.services.keys()].sort()),
    status: w.status,
    trustDomain: w.trustDomain,
    uid: w.uid,
    waypoint: dumpGateway(w.waypoint),
    workloadIps: w.addresses,
    workloadName: text(w.workloadName),
    workloadType: w.workloadType,
  });
}

function dumpService(s: Service, endpoints: ReadonlySet<Workload>): JsonObject {
  const { preferences, mode, healthPolicy } = s.loadBalancing;
  return sorted({
    canonical: s.canonical,
    cidrVips: nonEmpty(s.cidrVips.map((v) => ({ cidr: formatCidr(v.cidr), network: v.network }))),
    endpoints: dumpEndpoints(serviceKey(s), endpoints),
    hostname: s.hostname,
    ipFamilies: IP_FAMILIES[s.ipFamilies] ?? undefined,
    loadBalancer:
      s.loadBalancing === DEFAULT_LOAD_BALANCING
        ? undefined
        : { healthPolicy, mode, routingPreferences: preferences },
    name: s.name,
    namespace: s.namespace,
    ports: numbers([...s.ports].map(([port, { targetPort }]) => [port, targetPort])),
    subjectAltNames: nonEmpty(s.subjectAltNames),
    vips: s.vips.map((v) => `${v.network}/${v.ip}`),
    visibility: s.visibility,
    waypoint: dumpGateway(s.waypoint),
    weightedWaypoints: nonEmpty(
      s.weightedWaypoints.map((w) => ({
        destination: dumpGateway(w.destination) ?? null,
        weight: w.weight,
      })),
    ),
  });
}

function dumpPolicy(p: Authorization): JsonObject {
  return {
    action: p.action,
    dryRun: p.dryRun,
    name: p.name,
    namespace: p.namespace,
    rules: p.rules.map((rule) => rule.map((clause) => clause.map(dumpMatch))),
    scope: p.scope,
  };
}

const IP_FAMILIES = { Automatic: null, IPv4Only: "IPv4", IPv6Only: "IPv6", Dual: "Dual" } as const;

function dumpEndpoints(key: string, endpoints: ReadonlySet<Workload>): JsonObject {
  const none: PortMap = new Map();
  return sorted(
    Object.fromEntries(
      Array.from(endpoints, (w) => [
        w.uid,
        { port: numbers([...(w.services.get(key) ?? none)]), status: w.status, workloadUid: w.uid },
      ]),
    ),
  );
}

function dumpGateway(ref: GatewayAddress | null): JsonObject | undefined {
  return ref === null
    ? undefined
    : { destination: formatGateway(ref), hboneMtlsPort: ref.hbonePort };
}

function dumpMatch(m: Match): JsonObject {
  return sorted({
    destinationIps: nonEmpty(m.destinationIps.map(formatCidr)),
    destinationPorts: nonEmpty(m.destinationPorts),
    namespaces: nonEmpty(m.namespaces.map(dumpString)),
    notDestinationIps: nonEmpty(m.notDestinationIps.map(formatCidr)),
    notDestinationPorts: nonEmpty(m.notDestinationPorts),
    notNamespaces: nonEmpty(m.notNamespaces.map(dumpString)),
    notPrincipals: nonEmpty(m.notPrincipals.map(dumpString)),
    notServiceAccounts: nonEmpty(m.notServiceAccounts.map(dumpAccount)),
    notSourceIps: nonEmpty(m.notSourceIps.map((c: Cidr) => formatCidr(c))),
    principals: nonEmpty(m.principals.map(dumpString)),
    serviceAccounts: nonEmpty(m.serviceAccounts.map(dumpAccount)),
    sourceIps: nonEmpty(m.sourceIps.map(formatCidr)),
  });
}

function dumpString(m: StringMatch): JsonObject {
  switch (m.kind) {
    case "exact":
      return { Exact: m.value };
    case "prefix":
      return { Prefix: m.value };
    case "suffix":
      return { Suffix: m.value };
    case "presence":
      return { Presence: [] };
    default:
      return m satisfies never;
  }
}

function dumpAccount(m: ServiceAccountMatch): JsonObject {
  return { namespace: m.namespace, serviceAccount: m.serviceAccount };
}

function text(value: string): string | undefined {
  return value === "" ? undefined : value;
}

function nonEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

/** Ports as JSON keys. Integer-like keys always come in numeric order, as readers expect. */
function numbers(entries: readonly (readonly [number, number])[]): JsonObject {
  return Object.fromEntries(entries.map(([k, v]) => [String(k), v]));
}

function filled(value: { readonly [key: string]: Json }): JsonObject {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== null));
}

/** Keys in alphabetical order, absent ones left out. */
function sorted(value: { readonly [key: string]: Json | undefined }): JsonObject {
  const made: Record<string, Json> = {};
  for (const key of Object.keys(value).sort()) {
    const v = value[key];
    if (v !== undefined) made[key] = v;
  }
  return made;
}
