import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCidr } from "../net/cidr.ts";
import { dumpTables, type Json } from "./config-dump.ts";
import {
  byAddress,
  byHostname,
  cidrVips,
  ips,
  match,
  mesh,
  policy,
  ports,
  serves,
  service,
  vips,
  workload,
} from "./test-mesh.ts";

const KEY = "shop/cart.shop.svc.cluster.local";
const MESH = mesh({
  services: [
    service("cart", {
      namespace: "shop",
      vips: vips("10.96.0.20", "fd00:96::20"),
      cidrVips: cidrVips("10.97.0.0/16"),
      ports: ports({ 443: 0, 80: 8080 }),
      waypoint: byHostname("shop", "wp.shop.svc.cluster.local"),
      weightedWaypoints: [{ destination: byAddress("10.0.3.3"), weight: 2 }],
      loadBalancing: {
        preferences: ["Network", "Region"],
        mode: "Failover",
        healthPolicy: "AllowAll",
      },
      ipFamilies: "Dual",
      subjectAltNames: ["spiffe://cluster.local/ns/x/sa/y"],
      visibility: "Namespace",
    }),
    service("bare", { namespace: "shop", canonical: false }),
  ],
  workloads: [
    workload("cart-1", {
      namespace: "shop",
      addresses: ips("10.244.1.7"),
      services: serves(KEY, { 443: 8443 }),
      authorizationPolicies: ["shop/viewer"],
      waypoint: byAddress("10.0.3.3"),
      networkGateway: byHostname("gw", "gw.example.com"),
      applicationTunnel: { protocol: "PROXY", port: 15_088 },
      locality: { region: "r1", zone: "z1", subzone: "" },
      capacity: 3,
    }),
    workload("host", {
      networkMode: "HostNetwork",
      protocol: "TCP",
      status: "Unhealthy",
      services: serves("shop/later"),
    }),
  ],
  policies: [
    policy(
      "Allow",
      [
        [
          [
            match({
              principals: [{ kind: "exact", value: "cluster.local/ns/a/sa/b" }],
              namespaces: [
                { kind: "prefix", value: "a" },
                { kind: "suffix", value: "z" },
              ],
              notPrincipals: [{ kind: "presence" }],
              sourceIps: [parseCidr("10.0.0.0/8")],
              destinationPorts: [80, 81],
              serviceAccounts: [{ namespace: "a", serviceAccount: "b" }],
            }),
          ],
          [],
        ],
        [],
      ],
      { name: "viewer", namespace: "shop", scope: "WorkloadSelector", dryRun: true },
    ),
    policy("Deny", [], { name: "all", namespace: "istio-system", scope: "Global" }),
  ],
});

function keysAreSorted(value: Json): boolean {
  if (Array.isArray(value)) return value.every(keysAreSorted);
  if (typeof value !== "object" || value === null) return true;
  const keys = Object.keys(value).filter((k) => !/^\d+$/.test(k));
  return keys.join() === [...keys].sort().join() && Object.values(value).every(keysAreSorted);
}

test("a workload in Istio's shape", () => {
  const [first] = dumpTables(MESH).workloads;
  assert.deepEqual(first, {
    capacity: 1,
    canonicalName: "host",
    canonicalRevision: "latest",
    clusterId: "Kubernetes",
    name: "host",
    namespace: "ns",
    network: "net1",
    networkMode: "HostNetwork",
    node: "node-1",
    protocol: "TCP",
    serviceAccount: "host",
    services: ["shop/later"],
    status: "Unhealthy",
    trustDomain: "cluster.local",
    uid: "Kubernetes//Pod/ns/host",
    workloadIps: [],
    workloadName: "host",
    workloadType: "pod",
  });
  const cart = dumpTables(MESH).workloads[1];
  assert.deepEqual(cart?.["waypoint"], { destination: "net1/10.0.3.3", hboneMtlsPort: 15_008 });
  assert.deepEqual(cart?.["networkGateway"], {
    destination: "gw/gw.example.com",
    hboneMtlsPort: 15_008,
  });
  assert.deepEqual(cart?.["applicationTunnel"], { port: 15_088, protocol: "PROXY" });
});

test("a service in Istio's shape", () => {
  const cart = dumpTables(MESH).services[1];
  assert.deepEqual(cart, {
    canonical: true,
    cidrVips: [{ cidr: "10.97.0.0/16", network: "net1" }],
    endpoints: {
      "Kubernetes//Pod/shop/cart-1": {
        port: { 443: 8443 },
        status: "Healthy",
        workloadUid: "Kubernetes//Pod/shop/cart-1",
      },
    },
    hostname: "cart.shop.svc.cluster.local",
    ipFamilies: "Dual",
    loadBalancer: {
      healthPolicy: "AllowAll",
      mode: "Failover",
      routingPreferences: ["Network", "Region"],
    },
    name: "cart",
    namespace: "shop",
    ports: { 80: 8080, 443: 0 },
    subjectAltNames: ["spiffe://cluster.local/ns/x/sa/y"],
    vips: ["net1/10.96.0.20", "net1/fd00:96::20"],
    visibility: "Namespace",
    waypoint: { destination: "shop/wp.shop.svc.cluster.local", hboneMtlsPort: 15_008 },
    weightedWaypoints: [
      { destination: { destination: "net1/10.0.3.3", hboneMtlsPort: 15_008 }, weight: 2 },
    ],
  });
});

test("policies and staged services", () => {
  const dump = dumpTables(MESH);
  assert.deepEqual(
    dump.policies.map((p) => [p["scope"], p["action"], p["dryRun"]]),
    [
      ["Global", "Deny", false],
      ["WorkloadSelector", "Allow", true],
    ],
  );
  assert.deepEqual(dump.policies[1]?.["rules"], [
    [
      [
        {
          destinationPorts: [80, 81],
          namespaces: [{ Prefix: "a" }, { Suffix: "z" }],
          notPrincipals: [{ Presence: [] }],
          principals: [{ Exact: "cluster.local/ns/a/sa/b" }],
          serviceAccounts: [{ namespace: "a", serviceAccount: "b" }],
          sourceIps: ["10.0.0.0/8"],
        },
      ],
      [],
    ],
    [],
  ]);
  assert.deepEqual(dump.stagedServices, {
    "shop/later": {
      "Kubernetes//Pod/ns/host": {
        port: {},
        status: "Unhealthy",
        workloadUid: "Kubernetes//Pod/ns/host",
      },
    },
  });
});

test("keys are sorted at every level", () => {
  const dump = dumpTables(MESH);
  for (const part of Object.values(dump)) assert.ok(keysAreSorted(part));
});
