import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSocketAddr, parseIp } from "../net/ip.ts";
import {
  decideInboundHbone,
  decidePlaintext,
  inboundService,
  inboundSource,
  type InboundHboneRequest,
} from "./inbound.ts";
import {
  byAddress,
  byHostname,
  ips,
  mesh,
  ports,
  serves,
  service,
  vips,
  workload,
} from "./test-mesh.ts";
import type { MeshTables } from "./tables.ts";
import type { Workload } from "./workload.ts";

const KEY = "ns/web.ns.svc.cluster.local";
const HOST = "web.ns.svc.cluster.local";
const LOCAL = workload("pod", { addresses: ips("10.0.2.4"), services: serves(KEY) });
const WEB = service("web", { vips: vips("10.96.0.5") });
const PROXY: Partial<Workload> = { applicationTunnel: { protocol: "PROXY", port: 15_088 } };

/** `connect policy header` of what is forwarded, `status reason` of what is refused. */
function ask(
  tables: MeshTables,
  authority: string,
  part: Partial<InboundHboneRequest> = {},
): string {
  const d = decideInboundHbone(tables, {
    local: LOCAL,
    localIp: parseIp("10.0.2.4"),
    authority,
    network: "net1",
    ...part,
  });
  if (d.kind === "refuse") return `${d.status} ${d.reason}`;
  const header = d.proxyHeader === null ? "-" : formatSocketAddr(d.proxyHeader);
  return `${formatSocketAddr(d.connectTo)} ${formatSocketAddr(d.policyTarget)} ${header}`;
}

const PLAIN = mesh({ services: [WEB], workloads: [LOCAL] });
const WP = workload("wp", {
  addresses: ips("10.0.3.3"),
  services: serves("ns/wp.ns.svc.cluster.local"),
});
const WP_SERVICE = service("wp", { ports: ports({ 15008: 15008 }) });
const AT_WP = { local: WP, localIp: parseIp("10.0.3.3") };

for (const c of [
  { name: "own address", authority: "10.0.2.4:8080", want: "10.0.2.4:8080 10.0.2.4:8080 -" },
  { name: "another address", authority: "10.0.2.5:8080", want: "400 ip_mismatch" },
  {
    name: "IPv6 own address",
    authority: "[fd00:2::4]:80",
    part: { localIp: parseIp("fd00:2::4") },
    want: "[fd00:2::4]:80 [fd00:2::4]:80 -",
  },
  {
    name: "IPv4-mapped own address",
    authority: "[::ffff:10.0.2.4]:80",
    want: "10.0.2.4:80 10.0.2.4:80 -",
  },
  { name: "no port", authority: "10.0.2.4", want: "400 bad_authority" },
  { name: "no host", authority: ":80", want: "400 bad_authority" },
  { name: "empty", authority: "", want: "400 bad_authority" },
  { name: "port out of range", authority: "10.0.2.4:65536", want: "400 bad_authority" },
  { name: "not a host", authority: "a/b:80", want: "400 bad_authority" },
  {
    name: "bad authority before unknown pod",
    authority: "x",
    part: { local: null },
    want: "400 bad_authority",
  },
  {
    name: "record not here yet",
    authority: "10.0.2.4:80",
    part: { local: null },
    want: "503 unknown_source",
  },
  { name: "own port", authority: "10.0.2.4:15006", want: "503 self_call" },
  { name: "hbone port", authority: "10.0.2.4:15008", want: "503 self_call" },
  {
    name: "SOCKS5 port when on",
    authority: "10.0.2.4:15080",
    part: { ownPorts: new Set([15_080]) },
    want: "503 self_call",
  },
  {
    name: "SOCKS5 port when off",
    authority: "10.0.2.4:15080",
    want: "10.0.2.4:15080 10.0.2.4:15080 -",
  },
  { name: "port 0", authority: "10.0.2.4:0", want: "400 bad_authority" },
  {
    name: "host name: numeric target",
    authority: `${HOST}:80`,
    want: "10.0.2.4:8080 10.0.2.4:8080 -",
  },
  { name: "host name: unknown", authority: "nobody.example.com:80", want: "503 unknown_hostname" },
  {
    name: "host name: exact text only",
    authority: `${HOST.toUpperCase()}:80`,
    want: "503 unknown_hostname",
  },
  { name: "host name: port not on the service", authority: `${HOST}:81`, want: "503 no_port" },
  {
    name: "host name: the endpoint's mapping wins",
    authority: `${HOST}:80`,
    part: { local: { ...LOCAL, services: serves(KEY, { 80: 9000 }) } },
    want: "10.0.2.4:9000 10.0.2.4:9000 -",
  },
  {
    name: "host name: named port without mapping",
    tables: mesh({ services: [{ ...WEB, ports: ports({ 80: 0 }) }] }),
    authority: `${HOST}:80`,
    want: "503 no_port",
  },
  {
    name: "host name: membership is not enforced",
    authority: `${HOST}:80`,
    part: { local: workload("stranger") },
    want: "10.0.2.4:8080 10.0.2.4:8080 -",
  },
  {
    name: "host name: hidden service of another namespace",
    tables: mesh({ services: [{ ...WEB, visibility: "Namespace" }] }),
    authority: `${HOST}:80`,
    part: { local: workload("far", { namespace: "other" }) },
    want: "503 unknown_hostname",
  },
  {
    name: "host name mapped to an own port",
    tables: mesh({ services: [{ ...WEB, ports: ports({ 80: 15_006 }) }] }),
    authority: `${HOST}:80`,
    want: "503 self_call",
  },
  {
    name: "application tunnel NONE replaces the port and accepts any address",
    authority: "10.96.0.5:80",
    part: { local: { ...LOCAL, applicationTunnel: { protocol: "NONE", port: 15_088 } } },
    want: "10.0.2.4:15088 10.0.2.4:15088 -",
  },
  {
    name: "application tunnel without port keeps it",
    authority: "10.96.0.5:80",
    part: { local: { ...LOCAL, applicationTunnel: { protocol: "NONE", port: null } } },
    want: "10.0.2.4:80 10.0.2.4:80 -",
  },
  {
    name: "PROXY: loopback, policy on the pod's address, header with the authority",
    authority: "10.96.0.5:80",
    part: { local: { ...LOCAL, ...PROXY } },
    want: "127.0.0.1:15088 10.0.2.4:15088 10.96.0.5:80",
  },
  {
    name: "PROXY over IPv6",
    authority: "[fd00::5]:80",
    part: { local: { ...LOCAL, ...PROXY }, localIp: parseIp("fd00:2::4") },
    want: "[::1]:15088 [fd00:2::4]:15088 [fd00::5]:80",
  },
  {
    name: "PROXY without loopback",
    authority: "10.96.0.5:80",
    part: { local: { ...LOCAL, ...PROXY }, localhostAppTunnel: false },
    want: "10.0.2.4:15088 10.0.2.4:15088 10.96.0.5:80",
  },
  {
    name: "PROXY with a host name: a VIP and the authority's port",
    tables: mesh({
      services: [
        {
          ...WEB,
          vips: [{ network: "net2", ip: parseIp("10.1.1.1") }, ...vips("fd00::5", "10.96.0.5")],
        },
      ],
    }),
    authority: `${HOST}:80`,
    part: { local: { ...LOCAL, ...PROXY } },
    want: "127.0.0.1:15088 10.0.2.4:15088 10.96.0.5:80",
  },
  {
    name: "PROXY with a host name without VIP",
    tables: mesh({ services: [{ ...WEB, vips: [] }] }),
    authority: `${HOST}:80`,
    part: { local: { ...LOCAL, ...PROXY } },
    want: "503 no_address",
  },
  // A pod that is the waypoint of the address it is asked for (7.1, 3).
  {
    name: "waypoint of a service, by service name",
    tables: mesh({
      services: [{ ...WEB, waypoint: byHostname("ns", "wp.ns.svc.cluster.local") }, WP_SERVICE],
      workloads: [WP],
    }),
    authority: "10.96.0.5:80",
    part: AT_WP,
    want: "10.0.3.3:80 10.0.3.3:80 -",
  },
  {
    name: "waypoint of a workload, by address",
    tables: mesh({ workloads: [{ ...LOCAL, waypoint: byAddress("10.0.3.3") }, WP] }),
    authority: "10.0.2.4:8080",
    part: AT_WP,
    want: "10.0.3.3:8080 10.0.3.3:8080 -",
  },
  {
    name: "waypoint of a service only its own namespace sees",
    tables: mesh({
      services: [
        { ...WEB, namespace: "other", visibility: "Namespace", waypoint: byAddress("10.0.3.3") },
      ],
      workloads: [WP],
    }),
    authority: "10.96.0.5:80",
    part: AT_WP,
    want: "10.0.3.3:80 10.0.3.3:80 -",
  },
  {
    name: "not an endpoint of that waypoint",
    tables: mesh({
      services: [{ ...WEB, waypoint: byHostname("ns", "wp.ns.svc.cluster.local") }, WP_SERVICE],
      workloads: [{ ...WP, services: new Map() }],
    }),
    authority: "10.96.0.5:80",
    part: AT_WP,
    want: "400 ip_mismatch",
  },
  {
    name: "weighted waypoints are not consulted",
    tables: mesh({
      services: [
        { ...WEB, weightedWaypoints: [{ destination: byAddress("10.0.3.3"), weight: 1 }] },
      ],
      workloads: [WP],
    }),
    authority: "10.96.0.5:80",
    part: AT_WP,
    want: "400 ip_mismatch",
  },
] satisfies {
  name: string;
  tables?: MeshTables;
  authority: string;
  part?: Partial<InboundHboneRequest>;
  want: string;
}[])
  test(`inbound: ${c.name}`, () => {
    assert.equal(ask(c.tables ?? PLAIN, c.authority, c.part), c.want);
  });

test("plaintext: own ports and unknown pods are dropped, the rest goes on", () => {
  const at = (port: number, local: Workload | null) => {
    const d = decidePlaintext({ local, originalDestination: { ip: parseIp("10.0.2.4"), port } });
    return d.kind === "drop" ? d.reason : formatSocketAddr(d.target);
  };
  assert.equal(at(15_008, LOCAL), "self_call");
  assert.equal(at(15_008, null), "self_call");
  assert.equal(at(8080, null), "unknown_source");
  assert.equal(at(8080, LOCAL), "10.0.2.4:8080");
});

test("the source for telemetry is the workload at the peer's address, unless a gateway is between", () => {
  const tables = mesh({ workloads: [workload("client", { addresses: ips("10.0.1.9") })] });
  const of = (forwardedNetwork: string | null) =>
    inboundSource(tables, { network: "net1", peerIp: parseIp("10.0.1.9"), forwardedNetwork })?.name;
  assert.equal(of(null), "client");
  assert.equal(of("NET1"), "client");
  assert.equal(of("net2"), undefined);
  assert.equal(of(""), undefined);
});

test("the destination service: the one called, else the first that leads to the port", () => {
  const services = [
    service("web"),
    service("admin", { ports: ports({ 90: 9090 }) }),
    service("named", { ports: ports({ 70: 0 }) }),
  ];
  const w = workload("pod", {
    services: new Map(
      services.map((s) => [`ns/${s.hostname}`, new Map(s.name === "named" ? [[70, 7070]] : [])]),
    ),
  });
  const tables = mesh({ services, workloads: [w] });
  const of = (port: number, host: string | null) => inboundService(tables, w, port, host)?.name;
  assert.equal(of(8080, null), "web");
  assert.equal(of(9090, null), "admin");
  assert.equal(of(7070, null), "named");
  assert.equal(of(1, null), undefined);
  assert.equal(of(8080, "admin.ns.svc.cluster.local"), "admin");
  assert.equal(of(9090, "elsewhere"), "admin");
});
