// ztunnel's `/config_dump` as values: ours and Istio's, which agree. Each record keeps its JSON, so that
// `-o json` prints what the ztunnel said, fields unknown to us included.
import { parseConnection, parsePolicy, type DumpPolicy } from "./dump-parts.ts";
import type { Json, JsonObject } from "./json.ts";

export interface DumpGateway {
  /** `network/ip` or `namespace/hostname`. */
  readonly destination: string;
  readonly hbonePort: number;
}

export interface DumpWorkload {
  readonly raw: JsonObject;
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly addresses: readonly string[];
  readonly hostname: string;
  readonly node: string;
  readonly protocol: string;
  readonly status: string;
  readonly trustDomain: string;
  readonly serviceAccount: string;
  readonly waypoint: DumpGateway | null;
}

export interface DumpService {
  readonly raw: JsonObject;
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  /** `network/ip`. */
  readonly vips: readonly string[];
  readonly waypoint: DumpGateway | null;
  readonly endpointUids: readonly string[];
}

export interface DumpCertificate {
  readonly serialNumber: string;
  readonly validFrom: string;
  readonly expirationTime: string;
}

export interface DumpIdentity {
  readonly raw: JsonObject;
  readonly identity: string;
  readonly state: string;
  readonly chain: readonly DumpCertificate[];
  readonly roots: readonly DumpCertificate[];
}

export interface DumpConnection {
  readonly direction: "inbound" | "outbound";
  readonly src: string;
  readonly originalDst: string;
  readonly actualDst: string;
  readonly protocol: string;
}

/** One captured pod and its connections. */
export interface DumpPod {
  readonly raw: JsonObject;
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly connections: readonly DumpConnection[];
}

export interface ConfigDump {
  readonly raw: JsonObject;
  readonly workloads: readonly DumpWorkload[];
  readonly services: readonly DumpService[];
  readonly policies: readonly DumpPolicy[];
  readonly identities: readonly DumpIdentity[];
  readonly pods: readonly DumpPod[];
  /** The ztunnel's own version; empty when it does not say. */
  readonly version: string;
}

/** @throws {CliError} BAD_INPUT naming the field */
export function parseConfigDump(json: Json): ConfigDump {
  return {
    raw: json.object(),
    workloads: json.at("workloads").values().map(parseWorkload),
    services: json.at("services").values().map(parseService),
    policies: json.at("policies").values().map(parsePolicy),
    identities: json.at("certificates").values().map(parseIdentity),
    pods: json
      .at("workloadState")
      .entries()
      .map(([uid, pod]) => parsePod(uid, pod)),
    version: json.at("version").isAbsent ? "" : json.at("version").at("version").text(),
  };
}

/** True for a document that has a dump's keys. */
export function looksLikeConfigDump(json: Json): boolean {
  const o = json.object();
  return ["workloads", "services", "policies", "certificates"].some((key) => key in o);
}

function parseWorkload(w: Json): DumpWorkload {
  return {
    raw: w.object(),
    uid: w.at("uid").text(),
    name: w.at("name").text(),
    namespace: w.at("namespace").text(),
    addresses: w.at("workloadIps").texts(),
    hostname: w.at("hostname").text(),
    node: w.at("node").text(),
    protocol: w.at("protocol").text("TCP"),
    status: w.at("status").text("Healthy"),
    trustDomain: w.at("trustDomain").text("cluster.local"),
    serviceAccount: w.at("serviceAccount").text("default"),
    waypoint: parseGateway(w.at("waypoint")),
  };
}

function parseService(s: Json): DumpService {
  return {
    raw: s.object(),
    name: s.at("name").text(),
    namespace: s.at("namespace").text(),
    hostname: s.at("hostname").text(),
    vips: s.at("vips").texts(),
    waypoint: parseGateway(s.at("waypoint")),
    endpointUids: s
      .at("endpoints")
      .entries()
      .map(([uid, e]) => e.at("workloadUid").text(uid)),
  };
}

export function parseGateway(g: Json): DumpGateway | null {
  if (g.isAbsent) return null;
  const port = g.at("hboneMtlsPort").isAbsent ? g.at("port") : g.at("hboneMtlsPort");
  return { destination: g.at("destination").text(), hbonePort: port.number(15_008) };
}

function parseIdentity(c: Json): DumpIdentity {
  return {
    raw: c.object(),
    identity: c.at("identity").text(),
    state: c.at("state").text(),
    chain: c.at("certChain").list().map(parseCertificate),
    roots: c.at("rootCerts").list().map(parseCertificate),
  };
}

function parseCertificate(c: Json): DumpCertificate {
  return {
    serialNumber: c.at("serialNumber").text(),
    validFrom: c.at("validFrom").text(),
    expirationTime: c.at("expirationTime").text(),
  };
}

function parsePod(uid: string, pod: Json): DumpPod {
  const info = pod.at("info");
  const connections = pod.at("connections");
  const of = (direction: "inbound" | "outbound"): DumpConnection[] =>
    connections.isAbsent
      ? []
      : connections
          .at(direction)
          .list()
          .map((c) => parseConnection(c, direction));
  return {
    raw: pod.object(),
    uid,
    name: info.isAbsent ? uid : info.at("name").text(uid),
    namespace: info.isAbsent ? "" : info.at("namespace").text(),
    connections: [...of("inbound"), ...of("outbound")],
  };
}
