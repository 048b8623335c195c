// A config dump as the tables its ztunnel decides with, so that `explain` asks the same code about the same data.

import type { LoadBalancing, Scope, Service, ServicePort } from "#lib/model/service.ts";
import { MeshTables } from "#lib/model/tables.ts";
import type { GatewayAddress, PortMap, Workload } from "#lib/model/workload.ts";
import { parseCidr } from "#lib/net/cidr.ts";
import { tryParseIp, type Ip } from "#lib/net/ip.ts";
import { CliError } from "../errors.ts";
import { parseGateway, type ConfigDump } from "./config-dump.ts";
import { policyFromDump } from "./dump-policy.ts";
import { Json } from "./json.ts";

/** @throws {CliError} BAD_INPUT naming the record and field that cannot be read */
export function tablesFromDumps(dumps: readonly ConfigDump[]): MeshTables {
  const tables = new MeshTables();
  const seen = new Set<string>();
  const once = (key: string): boolean => !seen.has(key) && seen.add(key) !== undefined;
  for (const dump of dumps) {
    const ports = portMaps(dump);
    for (const s of dump.services)
      if (once(`service ${s.namespace}/${s.hostname}`)) tables.putService(serviceFromDump(s.raw));
    for (const w of dump.workloads)
      if (once(`workload ${w.uid}`)) tables.putWorkload(workloadFromDump(w.raw, ports));
    for (const p of dump.policies)
      if (once(`policy ${p.namespace}/${p.name}`)) tables.putPolicy(policyFromDump(p.raw));
  }
  return tables;
}

/** workload uid → service key → port mapping: the dump keeps it on the service's side. */
function portMaps(dump: ConfigDump): ReadonlyMap<string, ReadonlyMap<string, PortMap>> {
  const maps = new Map<string, Map<string, PortMap>>();
  for (const s of dump.services) {
    const key = `${s.namespace}/${s.hostname}`;
    for (const [uid, e] of new Json(s.raw, key).at("endpoints").entries()) {
      const owner = e.at("workloadUid").text(uid);
      const own = maps.get(owner) ?? new Map<string, PortMap>();
      own.set(key, numberMap(e.at("port")));
      maps.set(owner, own);
    }
  }
  return maps;
}

function workloadFromDump(
  raw: Readonly<Record<string, unknown>>,
  ports: ReadonlyMap<string, ReadonlyMap<string, PortMap>>,
): Workload {
  const uid = new Json(raw, "workload").at("uid").text();
  const w = new Json(raw, `workload ${uid}`);
  const locality = w.at("locality");
  const tunnel = w.at("applicationTunnel");
  const services = new Map<string, PortMap>();
  for (const key of w.at("services").texts()) services.set(key, new Map());
  for (const [key, map] of ports.get(uid) ?? []) services.set(key, map);
  return {
    uid,
    name: w.at("name").text(),
    namespace: w.at("namespace").text(),
    addresses: w.at("workloadIps").list().map(ipFrom),
    hostname: w.at("hostname").text(),
    network: w.at("network").text(),
    protocol: w.at("protocol").text("TCP") === "HBONE" ? "HBONE" : "TCP",
    networkMode: w.at("networkMode").text() === "HostNetwork" ? "HostNetwork" : "Standard",
    trustDomain: w.at("trustDomain").text("cluster.local"),
    serviceAccount: w.at("serviceAccount").text("default"),
    node: w.at("node").text(),
    waypoint: gatewayFrom(w.at("waypoint")),
    networkGateway: gatewayFrom(w.at("networkGateway")),
    applicationTunnel: tunnel.isAbsent
      ? null
      : {
          protocol: tunnel.at("protocol").text() === "PROXY" ? "PROXY" : "NONE",
          port: tunnel.at("port").isAbsent ? null : tunnel.at("port").number(),
        },
    nativeTunnel: w.at("nativeTunnel").boolean(),
    canonicalName: w.at("canonicalName").text(),
    canonicalRevision: w.at("canonicalRevision").text(),
    workloadName: w.at("workloadName").text(),
    workloadType: workloadType(w.at("workloadType").text()),
    authorizationPolicies: w.at("authorizationPolicies").texts(),
    status: w.at("status").text("Healthy") === "Unhealthy" ? "Unhealthy" : "Healthy",
    clusterId: w.at("clusterId").text(),
    locality: locality.isAbsent
      ? { region: "", zone: "", subzone: "" }
      : {
          region: locality.at("region").text(),
          zone: locality.at("zone").text(),
          subzone: locality.at("subzone").text(),
        },
    services,
    capacity: w.at("capacity").number(1),
  };
}

function serviceFromDump(raw: Readonly<Record<string, unknown>>): Service {
  const s = new Json(raw, `service ${String(raw["hostname"])}`);
  const ports = new Map<number, ServicePort>();
  for (const [port, target] of numberMap(s.at("ports")))
    ports.set(port, { targetPort: target, appProtocol: "UNKNOWN" });
  return {
    name: s.at("name").text(),
    namespace: s.at("namespace").text(),
    hostname: s.at("hostname").text(),
    vips: s.at("vips").list().map(vipFrom),
    cidrVips: s
      .at("cidrVips")
      .list()
      .map((v) => ({ network: v.at("network").text(), cidr: parseCidr(v.at("cidr").text()) })),
    ports,
    subjectAltNames: s.at("subjectAltNames").texts(),
    waypoint: gatewayFrom(s.at("waypoint")),
    weightedWaypoints: s
      .at("weightedWaypoints")
      .list()
      .flatMap((w) => {
        const destination = gatewayFrom(w.at("destination"));
        return destination === null ? [] : [{ destination, weight: w.at("weight").number() }];
      }),
    ingressUseWaypoint: s.at("ingressUseWaypoint").boolean(),
    loadBalancing: loadBalancingFrom(s.at("loadBalancer")),
    ipFamilies: IP_FAMILIES[s.at("ipFamilies").text()] ?? "Automatic",
    canonical: s.at("canonical").boolean(true),
    visibility: pick(s.at("visibility"), ["Namespace"], "Public"),
  };
}

const IP_FAMILIES: Readonly<Record<string, Service["ipFamilies"]>> = {
  IPv4: "IPv4Only",
  IPv6: "IPv6Only",
  Dual: "Dual",
};

function loadBalancingFrom(lb: Json): LoadBalancing {
  if (lb.isAbsent) return { preferences: [], mode: "Standard", healthPolicy: "OnlyHealthy" };
  const scopes: readonly Scope[] = ["Region", "Zone", "Subzone", "Node", "Cluster", "Network"];
  return {
    preferences: lb
      .at("routingPreferences")
      .texts()
      .flatMap((t) => scopes.filter((s) => s === t)),
    mode: pick(lb.at("mode"), ["Strict", "Failover", "Passthrough"], "Standard"),
    healthPolicy: pick(lb.at("healthPolicy"), ["AllowAll"], "OnlyHealthy"),
  };
}

/** `network/ip` or `namespace/hostname`. */
function gatewayFrom(json: Json): GatewayAddress | null {
  const gateway = parseGateway(json);
  if (gateway === null) return null;
  const slash = gateway.destination.indexOf("/");
  const first = gateway.destination.slice(0, Math.max(0, slash));
  const rest = gateway.destination.slice(slash + 1);
  const { hbonePort } = gateway;
  const ip = tryParseIp(rest);
  return ip === null
    ? { kind: "hostname", namespace: first, hostname: rest, hbonePort }
    : { kind: "address", network: first, ip, hbonePort };
}

function vipFrom(json: Json): { readonly network: string; readonly ip: Ip } {
  const text = json.text();
  const slash = text.indexOf("/");
  return {
    network: text.slice(0, Math.max(0, slash)),
    ip: ipFrom(new Json(text.slice(slash + 1), json.path)),
  };
}

function ipFrom(json: Json): Ip {
  const ip = tryParseIp(json.text());
  if (ip !== null) return ip;
  throw new CliError("BAD_INPUT", `${json.path}: not an IP address: ${JSON.stringify(json.value)}`);
}

function numberMap(json: Json): ReadonlyMap<number, number> {
  return new Map(json.entries().map(([port, target]) => [Number(port), target.number()]));
}

function workloadType(text: string): Workload["workloadType"] {
  return pick(
    new Json(text.toLowerCase(), "workloadType"),
    ["deployment", "cronjob", "job"],
    "pod",
  );
}

function pick<T extends string, F extends string>(
  json: Json,
  allowed: readonly T[],
  fallback: F,
): T | F {
  const text = json.text();
  return allowed.find((a) => a === text) ?? fallback;
}
