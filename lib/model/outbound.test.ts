import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSocketAddr, parseIp, tryParseSocketAddr } from "../net/ip.ts";
import { decideOutbound, type OutboundDecision, type OutboundRequest } from "./outbound.ts";
import type { Stage } from "./stage.ts";
import type { MeshTables } from "./tables.ts";
import {
  byAddress,
  byHostname,
  cidrVips,
  ips,
  mesh,
  ports,
  serves,
  service,
  vips,
  workload,
} from "./test-mesh.ts";
import type { Workload } from "./workload.ts";

const SOURCE = workload("client", { addresses: ips("10.0.1.9") });
const WEB = "ns/web.ns.svc.cluster.local";
const POD = workload("pod", { addresses: ips("10.0.2.4"), services: serves(WEB) });
const VIP = service("web", { vips: vips("10.96.0.5") });
const WP_KEY = "ns/wp.ns.svc.cluster.local";
const WP_SERVICE = service("wp", { ports: ports({ 15008: 15008 }), vips: vips("10.96.0.9") });
const WP_POD = workload("wp-1", {
  addresses: ips("10.0.3.3"),
  serviceAccount: "wp",
  services: serves(WP_KEY),
});
const WP_BY_NAME = byHostname("ns", "wp.ns.svc.cluster.local");

function ask(
  tables: MeshTables,
  destination: string,
  part: Partial<OutboundRequest> = {},
  evidence: Stage[] | null = null,
): OutboundDecision {
  const addr = tryParseSocketAddr(destination);
  assert.ok(addr !== null);
  const source = part.source ?? SOURCE;
  const request = {
    source,
    sourceIp: source.addresses[0] ?? parseIp("10.0.1.9"),
    destination: addr,
    network: "net1",
    random: () => 0,
    ...part,
  };
  return decideOutbound(tables, request, evidence);
}

/** A decision in one line, as the contract's examples write it. */
function line(d: OutboundDecision): string {
  switch (d.kind) {
    case "hbone":
      return `hbone ${formatSocketAddr(d.nextHop)} ${d.authority} ${d.expectedIdentities.map((i) => i.slice(23)).join()}`;
    case "tcp":
      return `tcp ${formatSocketAddr(d.address)}`;
    case "resolve":
      return `resolve ${d.hostname} ${d.prefer}`;
    case "reject":
      return `fail ${d.reason}`;
    default:
      return d satisfies never;
  }
}

const remote = (part: Partial<Workload>): Workload =>
  workload("far", { network: "net2", services: serves(WEB), ...part });

// The contract's worked examples: what the application dials, and what becomes of it.
for (const c of [
  {
    name: "an unknown address passes through",
    tables: mesh({}),
    dial: "93.184.216.34:443",
    want: "tcp 93.184.216.34:443",
  },
  {
    name: "a service leads to a mesh pod",
    tables: mesh({ services: [VIP], workloads: [POD] }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod",
  },
  {
    name: "a service leads to a pod outside the mesh",
    tables: mesh({ services: [VIP], workloads: [{ ...POD, protocol: "TCP" }] }),
    dial: "10.96.0.5:80",
    want: "tcp 10.0.2.4:8080",
  },
  {
    name: "a port the service lacks fails",
    tables: mesh({ services: [VIP], workloads: [POD] }),
    dial: "10.96.0.5:81",
    want: "fail no_healthy_upstream",
  },
  {
    name: "a named port is mapped by the endpoint",
    tables: mesh({
      services: [{ ...VIP, ports: ports({ 80: 0 }) }],
      workloads: [{ ...POD, services: serves(WEB, { 80: 9000 }) }],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.2.4:15008 10.0.2.4:9000 ns/ns/sa/pod",
  },
  {
    name: "a service waypoint gets the original destination",
    tables: mesh({
      services: [{ ...VIP, waypoint: byAddress("10.0.3.3") }],
      workloads: [POD, WP_POD],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.3.3:15008 10.96.0.5:80 ns/ns/sa/wp",
  },
  {
    name: "a waypoint without a healthy pod fails, never bypassed",
    tables: mesh({ services: [{ ...VIP, waypoint: WP_BY_NAME }, WP_SERVICE], workloads: [POD] }),
    dial: "10.96.0.5:80",
    want: "fail unknown_waypoint",
  },
  {
    name: "a pod address leads to the pod",
    tables: mesh({ workloads: [POD] }),
    dial: "10.0.2.4:8080",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod",
  },
  {
    name: "a workload waypoint gets pod-addressed traffic",
    tables: mesh({ workloads: [{ ...POD, waypoint: byAddress("10.0.3.3") }, WP_POD] }),
    dial: "10.0.2.4:8080",
    want: "hbone 10.0.3.3:15008 10.0.2.4:8080 ns/ns/sa/wp",
  },
  {
    name: "the waypoint itself reaches its pod",
    tables: mesh({ workloads: [{ ...POD, waypoint: byAddress("10.0.3.3") }, WP_POD] }),
    source: WP_POD,
    dial: "10.0.2.4:8080",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod",
  },
  {
    name: "an endpoint of another network without gateway fails",
    tables: mesh({ services: [VIP], workloads: [remote({ addresses: ips("10.9.0.4") })] }),
    dial: "10.96.0.5:80",
    want: "fail no_healthy_upstream",
  },
  {
    name: "an endpoint behind a gateway waits for double HBONE",
    tables: mesh({
      services: [VIP],
      workloads: [remote({ networkGateway: byAddress("192.0.2.8") })],
    }),
    dial: "10.96.0.5:80",
    want: "fail no_healthy_upstream",
  },
  {
    name: "a dual-stack service keeps the family",
    tables: mesh({
      services: [{ ...VIP, vips: vips("10.96.0.5", "fd00::5") }],
      workloads: [{ ...POD, addresses: ips("10.0.2.4", "fd00:2::4") }],
    }),
    dial: "[fd00::5]:80",
    want: "hbone [fd00:2::4]:15008 [fd00:2::4]:8080 ns/ns/sa/pod",
  },
  {
    name: "a host-network pod is just its node's address",
    tables: mesh({
      workloads: [workload("host", { addresses: ips("10.0.1.20"), networkMode: "HostNetwork" })],
    }),
    dial: "10.0.1.20:22",
    want: "tcp 10.0.1.20:22",
  },
  {
    name: "a host-name endpoint is resolved first",
    tables: mesh({
      services: [service("db", { vips: vips("240.240.0.9"), ports: ports({ 5432: 5432 }) })],
      workloads: [
        workload("db", {
          protocol: "TCP",
          hostname: "db.example.com",
          services: serves("ns/db.ns.svc.cluster.local"),
        }),
      ],
    }),
    dial: "240.240.0.9:5432",
    want: "resolve db.example.com ipv4",
  },
  // Beyond the table of examples.
  {
    name: "the proxy's own port on loopback is a loop",
    tables: mesh({}),
    dial: "127.0.0.1:15001",
    want: "fail self_call",
  },
  {
    name: "own port elsewhere is not a loop",
    tables: mesh({}),
    dial: "192.0.2.1:15001",
    want: "tcp 192.0.2.1:15001",
  },
  {
    name: "admin port on loopback is not an own port",
    tables: mesh({}),
    dial: "127.0.0.1:15000",
    want: "tcp 127.0.0.1:15000",
  },
  {
    name: "a service without endpoints fails",
    tables: mesh({ services: [VIP] }),
    dial: "10.96.0.5:80",
    want: "fail no_healthy_upstream",
  },
  {
    name: "a passthrough service keeps the destination",
    tables: mesh({
      services: [
        {
          ...VIP,
          loadBalancing: { preferences: [], mode: "Passthrough", healthPolicy: "AllowAll" },
        },
      ],
      workloads: [POD],
    }),
    dial: "10.96.0.5:81",
    want: "tcp 10.96.0.5:81",
  },
  {
    name: "a range VIP is a service",
    tables: mesh({
      services: [{ ...VIP, vips: [], cidrVips: cidrVips("10.97.0.0/16") }],
      workloads: [POD],
    }),
    dial: "10.97.3.4:80",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod",
  },
  {
    name: "a service of another namespace that hides itself is unknown",
    tables: mesh({
      services: [
        service("web", { namespace: "other", visibility: "Namespace", vips: vips("10.96.0.5") }),
      ],
    }),
    dial: "10.96.0.5:80",
    want: "tcp 10.96.0.5:80",
  },
  {
    name: "service traffic ignores the endpoint's workload waypoint",
    tables: mesh({
      services: [VIP],
      workloads: [{ ...POD, waypoint: byAddress("10.0.3.3") }, WP_POD],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod",
  },
  {
    name: "a workload waypoint is HBONE even for a pod outside the mesh",
    tables: mesh({
      workloads: [{ ...POD, protocol: "TCP", waypoint: byAddress("10.0.3.3") }, WP_POD],
    }),
    dial: "10.0.2.4:8080",
    want: "hbone 10.0.3.3:15008 10.0.2.4:8080 ns/ns/sa/wp",
  },
  {
    name: "another pod with the waypoint's account is not the waypoint",
    tables: mesh({ workloads: [{ ...POD, waypoint: byAddress("10.0.3.3") }, WP_POD] }),
    source: workload("wp-2", { addresses: ips("10.0.3.4"), serviceAccount: "wp" }),
    dial: "10.0.2.4:8080",
    want: "hbone 10.0.3.3:15008 10.0.2.4:8080 ns/ns/sa/wp",
  },
  {
    name: "extra names of the service are expected too, unparsable ones are not",
    tables: mesh({
      services: [
        { ...VIP, subjectAltNames: ["spiffe://cluster.local/ns/x/sa/y", "web.example.com"] },
      ],
      workloads: [POD],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod,ns/x/sa/y",
  },
  {
    name: "a waypoint service: its pod and its names, its port mapping",
    tables: mesh({
      services: [
        { ...VIP, waypoint: WP_BY_NAME },
        {
          ...WP_SERVICE,
          ports: ports({ 15008: 25008 }),
          subjectAltNames: ["spiffe://cluster.local/ns/ns/sa/wps"],
        },
      ],
      workloads: [POD, WP_POD],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.3.3:25008 10.96.0.5:80 ns/ns/sa/wp,ns/ns/sa/wps",
  },
  {
    name: "a waypoint by VIP is balanced like a service",
    tables: mesh({
      services: [{ ...VIP, waypoint: byAddress("10.96.0.9") }, WP_SERVICE],
      workloads: [POD, WP_POD],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.3.3:15008 10.96.0.5:80 ns/ns/sa/wp",
  },
  {
    name: "a sandwiched waypoint needs no such port on its service",
    tables: mesh({
      services: [
        { ...VIP, waypoint: WP_BY_NAME },
        { ...WP_SERVICE, ports: ports({ 80: 80 }) },
      ],
      workloads: [POD, { ...WP_POD, applicationTunnel: { protocol: "PROXY", port: 15088 } }],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.3.3:15008 10.96.0.5:80 ns/ns/sa/wp",
  },
  {
    name: "an unknown waypoint reference fails",
    tables: mesh({ services: [{ ...VIP, waypoint: WP_BY_NAME }], workloads: [POD] }),
    dial: "10.96.0.5:80",
    want: "fail unknown_waypoint",
  },
  {
    name: "an address that is both is a workload: no service waypoint, but service balancing",
    tables: mesh({
      services: [{ ...VIP, waypoint: byAddress("10.0.3.3") }],
      workloads: [workload("both", { addresses: ips("10.96.0.5") }), POD, WP_POD],
    }),
    dial: "10.96.0.5:80",
    want: "hbone 10.0.2.4:15008 10.0.2.4:8080 ns/ns/sa/pod",
  },
  {
    name: "families of the service restrict the address",
    tables: mesh({
      services: [{ ...VIP, ipFamilies: "IPv6Only" }],
      workloads: [{ ...POD, addresses: ips("10.0.2.4") }],
    }),
    dial: "10.96.0.5:80",
    want: "fail no_address",
  },
])
  test(`outbound: ${c.name}`, () => {
    assert.equal(
      line(ask(c.tables, c.dial, c.source === undefined ? {} : { source: c.source })),
      c.want,
    );
  });

test("a host-name endpoint goes on with the resolved address", () => {
  const db = service("db", { vips: vips("240.240.0.9"), ports: ports({ 5432: 5433 }) });
  const at = (protocol: Workload["protocol"]) =>
    ask(
      mesh({
        services: [db],
        workloads: [
          workload("db", {
            protocol,
            hostname: "db.example.com",
            services: serves("ns/db.ns.svc.cluster.local"),
          }),
        ],
      }),
      "240.240.0.9:5432",
    );
  const plain = at("TCP");
  assert.ok(plain.kind === "resolve");
  assert.equal(line(plain.complete(parseIp("192.0.2.7"))), "tcp 192.0.2.7:5433");
  const meshed = at("HBONE");
  assert.ok(meshed.kind === "resolve");
  assert.equal(
    line(meshed.complete(parseIp("192.0.2.7"))),
    "hbone 192.0.2.7:15008 192.0.2.7:5433 ns/ns/sa/db",
  );
});

test("weighted waypoints override the primary in proportion, weight 0 never", () => {
  const wp = (n: number) => workload(`w${n}`, { addresses: ips(`10.0.3.${n}`) });
  const tables = mesh({
    services: [
      {
        ...VIP,
        waypoint: byAddress("10.0.3.1"),
        weightedWaypoints: [
          { destination: byAddress("10.0.3.2"), weight: 0 },
          { destination: byAddress("10.0.3.3"), weight: 3 },
          { destination: byAddress("10.0.3.4"), weight: 1 },
        ],
      },
    ],
    workloads: [wp(1), wp(2), wp(3), wp(4)],
  });
  const drawn = [0, 0.74, 0.75, 0.999].map((r) => {
    const d = ask(tables, "10.96.0.5:80", { random: () => r });
    return d.kind === "hbone" && d.nextHop.ip;
  });
  assert.deepEqual(drawn, ["10.0.3.3", "10.0.3.3", "10.0.3.4", "10.0.3.4"]);
  const none = mesh({
    services: [
      {
        ...VIP,
        waypoint: byAddress("10.0.3.1"),
        weightedWaypoints: [{ destination: byAddress("10.0.3.2"), weight: 0 }],
      },
    ],
    workloads: [wp(1), wp(2)],
  });
  const d = ask(none, "10.96.0.5:80");
  assert.equal(d.kind === "hbone" && d.nextHop.ip, "10.0.3.1");
});

test("the waypoint is named for telemetry, the called service kept", () => {
  const tables = mesh({
    services: [{ ...VIP, waypoint: WP_BY_NAME }, WP_SERVICE],
    workloads: [POD, WP_POD],
  });
  const d = ask(tables, "10.96.0.5:80");
  assert.ok(d.kind === "hbone");
  assert.deepEqual(d.via, { kind: "waypoint", namespace: "ns", name: "wp" });
  assert.equal(d.destination.name, "wp-1");
  assert.equal(d.service?.name, "web");
  assert.equal(d.upstream, null);
});

test("evidence lists the stages taken and changes nothing", () => {
  const tables = mesh({ services: [VIP], workloads: [POD] });
  const stages: Stage[] = [];
  assert.deepEqual(
    line(ask(tables, "10.96.0.5:80", {}, stages)),
    line(ask(tables, "10.96.0.5:80")),
  );
  assert.deepEqual(
    stages.map((s) => `${s.id} ${s.result}`),
    ["S2 choose", "S3 pass", "S4 choose", "S6 choose"],
  );
  const failed: Stage[] = [];
  ask(mesh({ services: [VIP] }), "10.96.0.5:80", {}, failed);
  assert.deepEqual(failed.at(-1)?.result, "stop");
  assert.match(
    failed.at(-1)?.detail ?? "",
    /ns\/web\.ns\.svc\.cluster\.local has no healthy endpoint/,
  );
});
