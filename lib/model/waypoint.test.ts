// What a waypoint serves, and which backend it chooses: tables of authorities and of meshes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../net/ip.ts";
import { DEFAULT_LOAD_BALANCING } from "./service.ts";
import {
  byAddress,
  byHostname,
  cidrVips,
  ips,
  mesh,
  ports,
  service,
  serves,
  vips,
  workload,
} from "./test-mesh.ts";
import { chooseBackend, decideArrival, type Arrival, type Backend } from "./waypoint.ts";

const WP = byHostname("ns", "wp.ns.svc.cluster.local");
const OTHER = byHostname("ns", "other.ns.svc.cluster.local");
const SELF = workload("wp-1", {
  addresses: ips("10.0.9.1"),
  services: serves("ns/wp.ns.svc.cluster.local"),
  status: "Unhealthy",
});
const WEB = "ns/web.ns.svc.cluster.local";
const TABLES = mesh({
  services: [
    service("wp", { vips: vips("10.9.0.1"), ports: ports({ 15008: 15008 }) }),
    service("other", { vips: vips("10.9.0.2"), ports: ports({ 15008: 15008 }) }),
    service("web", { vips: vips("10.9.1.1", "fd00::1"), waypoint: WP }),
    service("by-ip", { vips: vips("10.9.1.2"), waypoint: byAddress("10.9.0.1") }),
    service("canary", {
      vips: vips("10.9.1.3"),
      waypoint: OTHER,
      weightedWaypoints: [
        { destination: OTHER, weight: 90 },
        { destination: WP, weight: 10 },
      ],
    }),
    service("theirs", { vips: vips("10.9.1.4"), waypoint: OTHER }),
    service("free", { vips: vips("10.9.1.5") }),
    service("range", { cidrVips: cidrVips("10.200.0.0/16"), waypoint: WP }),
    service("nowhere", { waypoint: WP }),
    service("lost", { vips: vips("10.9.1.6"), waypoint: byHostname("ns", "gone") }),
    service("twin", { vips: vips("10.9.1.1"), waypoint: WP, ports: ports({ 443: 8443 }) }),
  ],
  workloads: [
    SELF,
    workload("web-1", { addresses: ips("10.0.1.1"), services: serves(WEB, { 80: 9000 }) }),
    workload("bound", { addresses: ips("10.0.1.2"), waypoint: WP }),
    workload("loose", { addresses: ips("10.0.1.3") }),
  ],
});

for (const c of [
  { authority: "10.9.1.1:80", want: "web" },
  { authority: "[fd00::1]:80", want: "web" },
  { authority: "10.9.1.1:443", want: "twin" },
  { authority: "10.9.1.2:80", want: "by-ip" },
  { authority: "10.9.1.3:80", want: "canary" },
  { authority: "10.200.3.4:80", want: "range" },
  { authority: "web.ns.svc.cluster.local:80", want: "web" },
  { authority: "10.0.1.2:1234", want: "bound" },
  { authority: "10.0.1.2:15008", want: "503 self_call" },
  { authority: "10.9.1.1:81", want: "503 no_port" },
  { authority: "10.9.1.4:80", want: "400 not_bound" },
  { authority: "10.9.1.5:80", want: "400 not_bound" },
  { authority: "10.9.1.6:80", want: "400 not_bound" },
  { authority: "10.9.0.1:15008", want: "400 not_bound" },
  { authority: "10.0.1.1:9000", want: "400 not_bound" },
  { authority: "10.0.1.3:80", want: "400 not_bound" },
  { authority: "10.0.9.1:15000", want: "400 not_bound" },
  { authority: "192.0.2.1:80", want: "400 not_bound" },
  { authority: "theirs.ns.svc.cluster.local:80", want: "400 not_bound" },
  { authority: "nowhere.ns.svc.cluster.local:80", want: "503 no_address" },
  { authority: "example.com:80", want: "503 unknown_hostname" },
  { authority: "10.9.1.1", want: "400 bad_authority" },
  { authority: "", want: "400 bad_authority" },
])
  test(`arrival: ${JSON.stringify(c.authority)} → ${c.want}`, () => {
    const d = decideArrival(TABLES, { self: SELF, authority: c.authority });
    const got =
      d.kind === "refuse" ? `${d.status} ${d.reason}` : (d.service?.name ?? d.workload?.name);
    assert.equal(got, c.want);
  });

test("policy is asked about the address that was asked for, by name about the service's own", () => {
  const target = (authority: string): unknown => {
    const d = decideArrival(TABLES, { self: SELF, authority });
    return d.kind === "serve" ? d.target : d;
  };
  assert.deepEqual(target("10.200.3.4:80"), { ip: "10.200.3.4", port: 80 });
  assert.deepEqual(target("web.ns.svc.cluster.local:80"), { ip: "10.9.1.1", port: 80 });
});

test("nothing is served before the waypoint's own record has come", () => {
  const d = decideArrival(TABLES, { self: null, authority: "10.9.1.1:80" });
  assert.equal(d.kind === "refuse" && d.reason, "unknown_source");
});

function arrival(authority: string, tables = TABLES): Arrival {
  const d = decideArrival(tables, { self: SELF, authority });
  return d.kind === "serve" ? d : assert.fail(d.detail);
}

function choose(authority: string, tried: readonly string[] = [], tables = TABLES): Backend {
  return chooseBackend(tables, {
    self: SELF,
    arrival: arrival(authority, tables),
    tried: new Set(tried),
    random: () => 0,
  });
}

test("an endpoint in the mesh: its own port, its tunnel, its identity", () => {
  const b = choose("10.9.1.1:80");
  assert.deepEqual(b.kind === "hbone" && [b.nextHop, b.authority, b.expectedIdentities], [
    { ip: "10.0.1.1", port: 15_008 },
    "10.0.1.1:9000",
    ["spiffe://cluster.local/ns/ns/sa/web-1"],
  ]);
});

test("a pod is its own backend, on the port that was asked for, whatever its own waypoint", () => {
  const b = choose("10.0.1.2:1234");
  assert.equal(b.kind === "hbone" && b.authority, "10.0.1.2:1234");
});

test("one that was tried is not tried again", () => {
  const b = choose("10.9.1.1:80", ["Kubernetes//Pod/ns/web-1"]);
  assert.equal(b.kind === "none" && b.reason, "no_healthy_upstream");
  assert.equal(choose("10.9.1.2:80").kind, "none"); // no endpoints at all
});

test("outside the mesh: plaintext, by address or by name, and the original address without balancing", () => {
  const entry = {
    vips: vips("10.9.2.1"),
    waypoint: WP,
    ports: ports({ 80: 80 }),
  };
  const at = (part: object, endpoint: Parameters<typeof workload>[1]): Backend =>
    choose(
      "10.9.2.1:80",
      [],
      mesh({
        services: [
          service("wp", { vips: vips("10.9.0.1"), ports: ports({ 15008: 15008 }) }),
          service("ext", { ...entry, ...part }),
        ],
        workloads: [SELF, workload("vm", { protocol: "TCP", ...endpoint })],
      }),
    );
  const services = serves("ns/ext.ns.svc.cluster.local");
  const plain = at({}, { addresses: ips("192.0.2.7"), services });
  assert.deepEqual(plain.kind === "tcp" && plain.address, { ip: "192.0.2.7", port: 80 });
  const named = at({}, { hostname: "db.example", services });
  assert.equal(named.kind === "resolve" && named.hostname, "db.example");
  const resolved = named.kind === "resolve" ? named.complete(parseIp("192.0.2.8")) : null;
  assert.deepEqual(resolved?.kind === "tcp" && resolved.address.ip, "192.0.2.8");
  const loadBalancing = { ...DEFAULT_LOAD_BALANCING, mode: "Passthrough" as const };
  const through = at({ loadBalancing }, {});
  assert.deepEqual(through.kind === "tcp" && through.address, { ip: "10.9.2.1", port: 80 });
  const far = at({}, { addresses: ips("192.0.2.9"), network: "net2", services });
  assert.equal(far.kind, "none");
});
