// Values for tests of this room and its users: a workload, a service or a policy with only what matters spelled out.
import { parseCidr } from "../net/cidr.ts";
import { parseIp, type Ip } from "../net/ip.ts";
import type { Authorization, Match } from "./authorization.ts";
import { DEFAULT_LOAD_BALANCING, type Service, type ServicePort } from "./service.ts";
import { MeshTables } from "./tables.ts";
import { NO_LOCALITY, type GatewayAddress, type PortMap, type Workload } from "./workload.ts";

export function workload(name: string, part: Partial<Workload> = {}): Workload {
  const namespace = part.namespace ?? "ns";
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    addresses: [],
    hostname: "",
    network: "net1",
    protocol: "HBONE",
    networkMode: "Standard",
    trustDomain: "cluster.local",
    serviceAccount: name,
    node: "node-1",
    waypoint: null,
    networkGateway: null,
    applicationTunnel: null,
    nativeTunnel: false,
    canonicalName: name,
    canonicalRevision: "latest",
    workloadName: name,
    workloadType: "pod",
    authorizationPolicies: [],
    status: "Healthy",
    clusterId: "Kubernetes",
    locality: NO_LOCALITY,
    services: new Map(),
    capacity: 1,
    ...part,
  };
}

export function service(name: string, part: Partial<Service> = {}): Service {
  const namespace = part.namespace ?? "ns";
  return {
    name,
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    vips: [],
    cidrVips: [],
    ports: ports({ 80: 8080 }),
    subjectAltNames: [],
    waypoint: null,
    weightedWaypoints: [],
    ingressUseWaypoint: false,
    loadBalancing: DEFAULT_LOAD_BALANCING,
    ipFamilies: "Automatic",
    canonical: true,
    visibility: "Public",
    ...part,
  };
}

export function ports(map: Readonly<Record<number, number>>): ReadonlyMap<number, ServicePort> {
  return new Map(
    Object.entries(map).map(([port, targetPort]) => [
      Number(port),
      { targetPort, appProtocol: "UNKNOWN" as const },
    ]),
  );
}

export function ips(...texts: string[]): readonly Ip[] {
  return texts.map(parseIp);
}

export function vips(...texts: string[]): Service["vips"] {
  return texts.map((text) => ({ network: "net1", ip: parseIp(text) }));
}

export function cidrVips(...texts: string[]): Service["cidrVips"] {
  return texts.map((text) => ({ network: "net1", cidr: parseCidr(text) }));
}

/** `serves("ns/web.ns.svc.cluster.local", { 80: 9000 })` */
export function serves(
  key: string,
  map: Readonly<Record<number, number>> = {},
): ReadonlyMap<string, PortMap> {
  return new Map([[key, new Map(Object.entries(map).map(([p, t]) => [Number(p), t]))]]);
}

export function byAddress(ip: string, hbonePort = 15_008): GatewayAddress {
  return { kind: "address", network: "net1", ip: parseIp(ip), hbonePort };
}

export function byHostname(namespace: string, hostname: string): GatewayAddress {
  return { kind: "hostname", namespace, hostname, hbonePort: 15_008 };
}

export function match(part: Partial<Match>): Match {
  return {
    namespaces: [],
    notNamespaces: [],
    serviceAccounts: [],
    notServiceAccounts: [],
    principals: [],
    notPrincipals: [],
    sourceIps: [],
    notSourceIps: [],
    destinationIps: [],
    notDestinationIps: [],
    destinationPorts: [],
    notDestinationPorts: [],
    ...part,
  };
}

export function policy(
  action: Authorization["action"],
  rules: Authorization["rules"],
  part: Partial<Authorization> = {},
): Authorization {
  const name = part.name ?? action.toLowerCase();
  const namespace = part.namespace ?? "ns";
  return {
    key: `${namespace}/${name}`,
    name,
    namespace,
    scope: "Namespace",
    action,
    rules,
    dryRun: false,
    ...part,
  };
}

export function mesh(parts: {
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly policies?: readonly Authorization[];
}): MeshTables {
  const tables = new MeshTables();
  for (const s of parts.services ?? []) tables.putService(s);
  for (const w of parts.workloads ?? []) tables.putWorkload(w);
  for (const p of parts.policies ?? []) tables.putPolicy(p);
  return tables;
}
