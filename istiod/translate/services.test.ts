// Services and ServiceEntries: fields, load balancing, de-duplication and visibility.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gateway, istio, namespace, pod, service, TestMesh } from "./test-mesh.ts";

const HOST = "shop/web.shop.svc.cluster.local";

const PORTS = [
  { port: "name: http, port: 80", want: "HTTP11" },
  { port: "name: http2-api, port: 80", want: "HTTP2" },
  { port: "name: GRPC-x, port: 80", want: "GRPC" },
  { port: "name: grpc-web, port: 80", want: undefined },
  { port: "name: https, port: 443", want: "TLS" },
  { port: "name: tls-x, port: 443", want: "TLS" },
  { port: "name: tcp, port: 9", want: "TCP" },
  { port: "name: mongo, port: 27017", want: "TCP" },
  { port: "port: 3306", want: "TCP" },
  { port: "name: foo, port: 80", want: undefined },
  { port: "name: http, port: 80, protocol: UDP", want: undefined },
  { port: "name: dns, port: 53, protocol: UDP", want: undefined },
  { port: "name: http, port: 80, appProtocol: kubernetes.io/h2c", want: "HTTP2" },
  { port: "name: tcp, port: 80, appProtocol: kubernetes.io/ws", want: "HTTP11" },
  { port: "name: tcp, port: 80, appProtocol: kubernetes.io/wss", want: "TLS" },
  { port: "name: http, port: 80, appProtocol: example.com/x", want: undefined },
];
for (const { port, want } of PORTS)
  test(`app protocol of {${port}} is ${want ?? "UNKNOWN"}`, () => {
    const mesh = new TestMesh(service("web", `clusterIP: 10.1.0.1, ports: [{${port}}]`));
    assert.equal(mesh.service(HOST).ports[0].appProtocol, want);
  });

const ZONE = { routingPreference: ["NETWORK", "REGION", "ZONE"], mode: "FAILOVER" };
const NODE = {
  routingPreference: ["NETWORK", "REGION", "ZONE", "SUBZONE", "NODE"],
  mode: "FAILOVER",
};
const LOCAL = { routingPreference: ["NODE"], mode: "STRICT" };
const KEY = "networking.istio.io/traffic-distribution";
const BALANCING = [
  { name: "nothing", spec: "", want: undefined },
  { name: "PreferClose", spec: "trafficDistribution: PreferClose", want: ZONE },
  { name: "PreferSameZone", spec: "trafficDistribution: PreferSameZone", want: ZONE },
  { name: "PreferSameNode", spec: "trafficDistribution: PreferSameNode", want: NODE },
  {
    name: "local beats distribution",
    spec: "internalTrafficPolicy: Local, trafficDistribution: PreferSameNode",
    want: LOCAL,
  },
  { name: "annotation in any case", spec: "", own: "preferCLOSE", want: ZONE },
  { name: "namespace annotation", spec: "", ns: "PreferSameNode", want: NODE },
  { name: "own annotation first", spec: "", own: "PreferClose", ns: "PreferSameNode", want: ZONE },
  {
    name: "unknown annotation stops the search",
    spec: "",
    own: "Any",
    ns: "PreferClose",
    want: undefined,
  },
  {
    name: "unknown spec value goes on to the annotation",
    spec: "trafficDistribution: Odd",
    own: "PreferClose",
    want: ZONE,
  },
  {
    name: "not ready alone",
    spec: "publishNotReadyAddresses: true",
    want: { healthPolicy: "ALLOW_ALL" },
  },
  {
    name: "not ready with distribution",
    spec: "publishNotReadyAddresses: true, trafficDistribution: PreferClose",
    want: { ...ZONE, healthPolicy: "ALLOW_ALL" },
  },
];
for (const { name, spec, own, ns, want } of BALANCING)
  test(`load balancing: ${name}`, () => {
    const annotated = (value: string | undefined): string =>
      value === undefined ? "" : `annotations: {${KEY}: ${value}}`;
    const rest = spec === "" ? "" : `, ${spec}`;
    const mesh = new TestMesh(
      `apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, ${annotated(ns)}}\n` +
        service("web", `clusterIP: 10.1.0.1, ports: [{port: 80}]${rest}`, annotated(own)) +
        service("plain", "clusterIP: 10.1.0.2, ports: [{port: 80}]", `annotations: {${KEY}: none}`),
    );
    assert.deepEqual(mesh.service(HOST).loadBalancing, want);
    assert.equal(mesh.service("shop/plain.shop.svc.cluster.local").loadBalancing, undefined);
  });

const SHAPES = [
  {
    name: "dual stack",
    spec: "clusterIPs: [10.1.0.1, 'fd00::1'], ipFamilies: [IPv4, IPv6]",
    families: "DUAL",
    addresses: 2,
  },
  { name: "IPv6", spec: "clusterIP: 'fd00::1'", families: "IPV6_ONLY", addresses: 1 },
  {
    name: "headless with selector",
    spec: "clusterIP: None, selector: {app: web}",
    families: "IPV4_ONLY",
    addresses: undefined,
  },
  {
    name: "headless without selector",
    spec: "clusterIP: None",
    families: "DUAL",
    addresses: undefined,
  },
  {
    name: "headless, single stack",
    spec: "clusterIP: None, ipFamilyPolicy: SingleStack",
    families: "IPV4_ONLY",
    addresses: undefined,
  },
  { name: "no address at all", spec: "clusterIP: ''", families: undefined, addresses: undefined },
];
for (const { name, spec, families, addresses } of SHAPES)
  test(`shape: ${name}`, () => {
    const found = new TestMesh(service("web", spec)).service(HOST);
    assert.equal(found.ipFamilies, families);
    assert.equal(found.addresses?.length, addresses);
  });

test("ExternalName Services are nothing to the mesh, and becoming one removes", () => {
  const mesh = new TestMesh(service("web", "clusterIP: 10.1.0.1"));
  assert.notEqual(mesh.service(HOST), undefined);
  const delta = mesh.apply(service("web", "type: ExternalName, externalName: example.org"));
  assert.deepEqual(delta.addresses.removed, [HOST]);
  assert.deepEqual(delta.services, [HOST]);
});

function entry(name: string, spec: string, options: { ns?: string; meta?: string } = {}): string {
  return istio("ServiceEntry", name, spec, options);
}

test("ServiceEntry: one Service per host, ranges masked, resolution NONE passes through", () => {
  const mesh = new TestMesh(
    entry(
      "ext",
      "hosts: [a.example, '*.b.example'], addresses: [10.9.8.7/24, 'fd00::5'], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 81, name: x, protocol: http-odd}], subjectAltNames: [z, y]",
    ),
  );
  const a = mesh.service("shop/a.example");
  assert.deepEqual(a.addresses, [{ address: "10.9.8.0", length: 24 }, { address: "fd00::5" }]);
  assert.deepEqual(a.ports, [
    { servicePort: 80, targetPort: 8080, appProtocol: "HTTP11" },
    { servicePort: 81, targetPort: 81 },
  ]);
  assert.deepEqual(a.loadBalancing, { mode: "PASSTHROUGH", healthPolicy: "ALLOW_ALL" });
  assert.deepEqual(a.subjectAltNames, ["y", "z"]);
  assert.equal(a.canonical, true);
  assert.deepEqual(mesh.service("shop/*.b.example").addresses, a.addresses);
  assert.deepEqual(mesh.conditions("ServiceEntry/shop/ext"), [
    "istio.io/WaypointMissing=True/NoWaypointForWildcardService",
  ]);
  assert.equal(
    new TestMesh(entry("bad", "hosts: [a.example], addresses: [nonsense]")).translator.addresses()
      .size,
    0,
  );
});

test("allocated addresses serve hosts that have none of their own", () => {
  const status = (resolution: string, hosts: string): string =>
    `${entry("ext", `hosts: [${hosts}], resolution: ${resolution}`)}status: {addresses: [{value: 240.240.0.1, host: a.example}, {value: '2001:2::1', host: a.example}, {value: 240.240.0.2, host: '*.w.example'}]}\n`;
  const mesh = new TestMesh(status("DNS", "a.example, '*.w.example'"));
  assert.deepEqual(mesh.service("shop/a.example").addresses, [
    { address: "240.240.0.1" },
    { address: "2001:2::1" },
  ]);
  assert.equal(mesh.service("shop/*.w.example").addresses, undefined);
  mesh.apply(status("DYNAMIC_DNS", "a.example, '*.w.example'"));
  assert.deepEqual(mesh.service("shop/*.w.example").addresses, [{ address: "240.240.0.2" }]);
  mesh.apply(status("NONE", "a.example"));
  assert.equal(mesh.service("shop/a.example").addresses, undefined);
});

test("one host: per namespace the Kubernetes Service or the oldest entry, one canonical overall", () => {
  const host = "web.shop.svc.cluster.local";
  const at = (time: string): { meta: string } => ({
    meta: `creationTimestamp: '2026-01-0${time}T00:00:00Z'`,
  });
  const spec = (port: number): string => `hosts: [${host}], ports: [{number: ${port}}]`;
  const mesh = new TestMesh(
    entry("young", spec(2), at("2")) +
      entry("old", spec(1), at("1")) +
      entry("far", spec(3), { ns: "other", ...at("1") }),
  );
  assert.equal(mesh.service(HOST).name, "old");
  assert.equal(mesh.service(`other/${host}`).canonical, true); // same age: namespace and name decide
  assert.equal(mesh.service(HOST).canonical, undefined);
  mesh.apply(service("web", "clusterIP: 10.1.0.1, ports: [{port: 9}]"));
  assert.equal(mesh.service(HOST).ports[0].servicePort, 9);
  assert.equal(mesh.service(HOST).canonical, true);
  assert.equal(mesh.service(`other/${host}`).canonical, undefined);
  mesh.remove(service("web", ""));
  mesh.remove(entry("old", spec(1)));
  assert.equal(mesh.service(HOST).name, "young");
});

test("visibility: NONE hides, NAMESPACE is never canonical nor bound across namespaces", () => {
  const visibility = {
    defaultVisibility: "PUBLIC" as const,
    policies: [
      {
        visibility: "NONE" as const,
        matchingRules: [{ namespaceSelector: { matchLabels: { v: "none" } } }],
      },
      { visibility: "PUBLIC" as const, matchingRules: [{}] },
      {
        visibility: "NAMESPACE" as const,
        matchingRules: [{ namespaceSelector: { matchLabels: { v: "own" } } }],
      },
    ],
  };
  const mesh = new TestMesh(
    namespace("shop", "v: own, istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra") +
      namespace("hidden", "v: none") +
      namespace("infra") +
      gateway("wp", { ns: "infra", from: "{from: All}" }) +
      entry("a", "hosts: [a.example], resolution: STATIC, endpoints: [{address: 10.0.0.1}]") +
      entry("b", "hosts: [b.example], resolution: STATIC, endpoints: [{address: 10.0.0.2}]", {
        ns: "hidden",
      }) +
      entry("c", "hosts: [a.example]", {
        ns: "zzz",
        meta: "creationTimestamp: '2026-01-01T00:00:00Z'",
      }),
    { serviceEntryVisibility: visibility },
  );
  assert.equal(mesh.service("shop/a.example").visibility, "NAMESPACE");
  assert.equal(mesh.service("shop/a.example").canonical, undefined);
  assert.equal(mesh.service("zzz/a.example").canonical, true);
  assert.equal(mesh.service("shop/a.example").waypoint, undefined);
  assert.deepEqual(mesh.conditions("ServiceEntry/shop/a"), [
    "istio.io/VisibilityApplied=True/Namespace",
    "istio.io/WaypointBound=False/CrossNamespaceWaypointForbidden",
  ]);
  assert.equal(mesh.service("hidden/b.example"), undefined);
  assert.ok(![...mesh.translator.addresses().keys()].some((name) => name.includes("hidden")));
});

test("a changed Service names the workloads that are to be sent again", () => {
  const mesh = new TestMesh(
    service("web", "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]") +
      pod("a") +
      pod("b", { ip: "10.0.0.2" }),
  );
  const delta = mesh.apply(
    service(
      "web",
      "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}], publishNotReadyAddresses: true",
    ),
  );
  assert.deepEqual(delta, {
    addresses: { updated: [HOST], removed: [] },
    authorizations: { updated: [], removed: [] },
    waypointPolicies: { updated: [], removed: [] },
    services: [HOST],
  });
  assert.deepEqual([...mesh.translator.workloadsOfService(HOST)].sort(), [
    "Kubernetes//Pod/shop/a",
    "Kubernetes//Pod/shop/b",
  ]);
});
