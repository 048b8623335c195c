import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../net/ip.ts";
import { chooseIp, localityRank, pickEndpoint, type PickRequest } from "./pick-endpoint.ts";
import type { LoadBalancing, Scope, Service } from "./service.ts";
import { byAddress, ips, mesh, ports, serves, service, workload } from "./test-mesh.ts";
import type { Locality, Workload } from "./workload.ts";

const KEY = "ns/web.ns.svc.cluster.local";
const at = (text: string): Locality => {
  const [region = "", zone = "", subzone = ""] = text.split("/");
  return { region, zone, subzone };
};
const SOURCE = workload("client", {
  addresses: ips("10.0.1.9"),
  locality: at("r1/z1/s1"),
  node: "n1",
});
const end = (name: string, part: Partial<Workload> = {}): Workload =>
  workload(name, { addresses: ips("10.0.2.4"), services: serves(KEY), ...part });
const balanced = (mode: LoadBalancing["mode"], ...preferences: Scope[]): Service =>
  service("web", { loadBalancing: { mode, preferences, healthPolicy: "OnlyHealthy" } });

/** Who can be picked, over the whole range of `random`; or why nobody. */
function reach(
  s: Service,
  endpoints: readonly Workload[],
  part: Partial<PickRequest> = {},
): string {
  const tables = mesh({ services: [s], workloads: endpoints });
  const seen = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const request = {
      service: s,
      port: 80,
      source: SOURCE,
      mode: "standard" as const,
      random: () => i / 100,
      ...part,
    };
    const pick = pickEndpoint(tables, request);
    seen.add(pick.kind === "none" ? pick.why : `${pick.workload.name}:${pick.port}`);
  }
  return [...seen].join(" ");
}

const WEB = service("web");
for (const c of [
  { name: "no endpoints", s: WEB, ends: [], want: "no-endpoints" },
  {
    name: "port not on the service",
    s: service("web", { ports: ports({ 81: 8080 }) }),
    ends: [end("a")],
    want: "no-port",
  },
  { name: "numeric target", s: WEB, ends: [end("a")], want: "a:8080" },
  {
    name: "endpoint mapping wins",
    s: WEB,
    ends: [end("a", { services: serves(KEY, { 80: 9000 }) })],
    want: "a:9000",
  },
  {
    name: "named port needs a mapping",
    s: service("web", { ports: ports({ 80: 0 }) }),
    ends: [end("a"), end("b", { services: serves(KEY, { 80: 9000 }) })],
    want: "b:9000",
  },
  {
    name: "named port that nobody maps",
    s: service("web", { ports: ports({ 80: 0 }) }),
    ends: [end("a")],
    want: "unreachable",
  },
  {
    name: "no address, no host name",
    s: WEB,
    ends: [end("a", { addresses: [] })],
    want: "unreachable",
  },
  {
    name: "a host name is an address",
    s: WEB,
    ends: [end("a", { addresses: [], hostname: "a.example.com" })],
    want: "a:8080",
  },
  {
    name: "no address but a gateway of another network",
    s: WEB,
    ends: [end("a", { addresses: [], network: "net2", networkGateway: byAddress("192.0.2.8") })],
    want: "a:8080",
  },
  {
    name: "a gateway of the own network does not help",
    s: WEB,
    ends: [end("a", { addresses: [], networkGateway: byAddress("192.0.2.8") })],
    want: "unreachable",
  },
  { name: "everyone may be picked", s: WEB, ends: [end("a"), end("b")], want: "a:8080 b:8080" },
  { name: "capacity 0 never", s: WEB, ends: [end("a", { capacity: 0 }), end("b")], want: "b:8080" },
  { name: "all capacities 0", s: WEB, ends: [end("a", { capacity: 0 })], want: "no-weight" },
  {
    name: "waypoint mode: the port may be missing with an application tunnel",
    s: service("web", { ports: ports({}) }),
    ends: [end("a"), end("b", { applicationTunnel: { protocol: "PROXY", port: 15_088 } })],
    part: { mode: "waypoint" as const, port: 15_008 },
    want: "b:15008",
  },
  {
    name: "waypoint mode: an application tunnel without port leads nowhere",
    s: service("web", { ports: ports({}) }),
    ends: [end("b", { applicationTunnel: { protocol: "NONE", port: null } })],
    part: { mode: "waypoint" as const, port: 15_008 },
    want: "no-target-port",
  },
  {
    name: "STRICT [NODE] stays on the node",
    s: balanced("Strict", "Node"),
    ends: [end("a", { node: "n1" }), end("b", { node: "n2" })],
    want: "a:8080",
  },
  {
    name: "STRICT without a match fails",
    s: balanced("Strict", "Node"),
    ends: [end("b", { node: "n2" })],
    want: "locality",
  },
  {
    name: "STRICT needs every preference",
    s: balanced("Strict", "Network", "Region", "Zone"),
    ends: [end("a", { locality: at("r1/z2") })],
    want: "locality",
  },
  {
    name: "FAILOVER takes the best group only",
    s: balanced("Failover", "Region", "Zone"),
    ends: [
      end("a", { locality: at("r1/z2") }),
      end("b", { locality: at("r1/z1") }),
      end("c", { locality: at("r2/z1") }),
      end("d", { locality: at("r1/z1") }),
    ],
    want: "b:8080 d:8080",
  },
  {
    name: "FAILOVER falls back to anyone",
    s: balanced("Failover", "Region"),
    ends: [end("a", { locality: at("r2") })],
    want: "a:8080",
  },
  {
    name: "FAILOVER skips who cannot be reached",
    s: balanced("Failover", "Region"),
    ends: [end("a", { locality: at("r1"), addresses: [] }), end("b", { locality: at("r2") })],
    want: "b:8080",
  },
])
  test(`pick: ${c.name}`, () => {
    assert.equal(reach(c.s, c.ends, c.part), c.want);
  });

test("capacity is a weight", () => {
  const ends = [end("a", { capacity: 3 }), end("b", { capacity: 1 })];
  const tables = mesh({ services: [WEB], workloads: ends });
  let a = 0;
  for (let i = 0; i < 1000; i++) {
    const pick = pickEndpoint(tables, {
      service: WEB,
      port: 80,
      source: SOURCE,
      mode: "standard",
      random: () => i / 1000,
    });
    if (pick.kind === "endpoint" && pick.workload.name === "a") a++;
  }
  assert.equal(a, 750);
});

// The ranking table: [NETWORK, REGION, ZONE].
const NETWORK_FIRST: Scope[] = ["Network", "Region", "Zone"];
for (const c of [
  { name: "all", network: "net1", locality: "r1/z1", want: 5 },
  { name: "network and region", network: "net1", locality: "r1/z2", want: 4 },
  { name: "network only", network: "net1", locality: "r2/z2", want: 3 },
  { name: "network, zone of another region", network: "net1", locality: "r2/z1", want: 3 },
  { name: "other network, region and zone", network: "net2", locality: "r1/z1", want: 2 },
  { name: "other network, region", network: "net2", locality: "r1/z2", want: 1 },
  { name: "nothing", network: "net2", locality: "r2/z2", want: 0 },
])
  test(`rank [NETWORK, REGION, ZONE]: ${c.name}`, () => {
    const endpoint = end("a", { network: c.network, locality: at(c.locality) });
    assert.equal(localityRank(NETWORK_FIRST, SOURCE, endpoint), c.want);
  });

for (const c of [
  { prefs: ["Region", "Zone", "Subzone"], part: { locality: at("r1/z1/s1") }, want: 3 },
  { prefs: ["Region", "Zone", "Subzone"], part: { locality: at("r1/z2/s1") }, want: 1 },
  { prefs: ["Region", "Network"], part: { network: "net2", locality: at("r1") }, want: 1 },
  { prefs: ["Node", "Cluster"], part: { node: "n1" }, want: 2 },
  { prefs: ["Node", "Cluster"], part: { node: "n2" }, want: 0 },
  { prefs: ["Cluster"], part: { clusterId: "other" }, want: 0 },
  { prefs: [], part: {}, want: 0 },
] satisfies { prefs: Scope[]; part: Partial<Workload>; want: number }[])
  test(`rank [${c.prefs.join()}] of ${JSON.stringify(c.part)}`, () => {
    assert.equal(localityRank(c.prefs, SOURCE, end("a", c.part)), c.want);
  });

test("empty localities are equal", () => {
  assert.equal(localityRank(["Region"], workload("x"), workload("y")), 1);
});

for (const c of [
  {
    name: "the called address itself",
    w: { addresses: ips("10.0.2.5", "10.0.2.4") },
    called: "10.0.2.4",
    want: "10.0.2.4",
  },
  {
    name: "the caller's family",
    w: { addresses: ips("10.0.2.4", "fd00:2::4") },
    called: "fd00::5",
    want: "fd00:2::4",
  },
  {
    name: "else the first",
    w: { addresses: ips("10.0.2.4") },
    called: "fd00::5",
    want: "10.0.2.4",
  },
  {
    name: "families of the service restrict",
    w: { addresses: ips("10.0.2.4", "fd00:2::4") },
    called: "10.96.0.5",
    families: "IPv6Only",
    want: "fd00:2::4",
  },
  {
    name: "IPv4 only",
    w: { addresses: ips("fd00:2::4", "10.0.2.4") },
    called: "fd00::5",
    families: "IPv4Only",
    want: "10.0.2.4",
  },
  {
    name: "dual restricts nothing",
    w: { addresses: ips("fd00:2::4") },
    called: "10.96.0.5",
    families: "Dual",
    want: "fd00:2::4",
  },
  {
    name: "the called address even against the families",
    w: { addresses: ips("10.0.2.4") },
    called: "10.0.2.4",
    families: "IPv6Only",
    want: "10.0.2.4",
  },
  {
    name: "else the host name",
    w: { hostname: "a.example.com" },
    called: "10.96.0.5",
    want: "a.example.com",
  },
  { name: "else nothing", w: {}, called: "10.96.0.5", want: "none" },
] satisfies {
  name: string;
  w: Partial<Workload>;
  called: string;
  families?: Service["ipFamilies"];
  want: string;
}[])
  test(`address: ${c.name}`, () => {
    const s = c.families === undefined ? null : service("web", { ipFamilies: c.families });
    const chosen = chooseIp(workload("a", c.w), parseIp(c.called), s);
    assert.equal(
      chosen.kind === "ip" ? chosen.ip : chosen.kind === "hostname" ? chosen.hostname : "none",
      c.want,
    );
  });

// Large services remember who may be picked; every change must be seen at once.
for (const mode of ["Standard", "Failover"] as const)
  test(`a service of many endpoints (${mode}) notices every change`, () => {
    const s = balanced(mode, "Region");
    const many = Array.from({ length: 40 }, (_, i) => end(`p${i}`, { locality: at("r1") }));
    const tables = mesh({ services: [s], workloads: many });
    const reached = (source = SOURCE): number => {
      const seen = new Set<string>();
      for (let i = 0; i < 200; i++) {
        const pick = pickEndpoint(tables, {
          service: tables.findService("ns", s.hostname) ?? s,
          port: 80,
          source,
          mode: "standard",
          random: () => i / 200,
        });
        if (pick.kind === "endpoint") seen.add(pick.workload.uid);
      }
      return seen.size;
    };
    assert.equal(reached(), 40);
    assert.equal(reached(), 40);
    tables.putWorkload(end("late", { locality: at("r1") }));
    assert.equal(reached(), 41);
    tables.putWorkload(end("p0", { status: "Unhealthy", locality: at("r1") }));
    assert.equal(reached(), 40);
    tables.apply([{ op: "remove-address", name: many[1]?.uid ?? "" }]);
    assert.equal(reached(), 39);
    tables.putWorkload(end("far", { locality: at("r2") }));
    const all = mode === "Standard" ? 40 : 39;
    assert.equal(reached(), all);
    // The same pod, now running elsewhere.
    assert.equal(reached({ ...SOURCE, locality: at("r2") }), mode === "Standard" ? 40 : 1);
    tables.putService({ ...s, ports: ports({ 80: 0 }) });
    assert.equal(reached(), 0);
  });
