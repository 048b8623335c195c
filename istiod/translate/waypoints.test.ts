// Waypoints as data: who is bound to which, and what the others are told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gateway, istio, namespace, pod, service, TestMesh } from "./test-mesh.ts";

const WEB = "shop/web.shop.svc.cluster.local";
const SPEC = "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]";
const BOUND = (name: string, ns = "shop"): object => ({
  hostname: { namespace: ns, hostname: `${name}.${ns}.svc.cluster.local` },
  hboneMtlsPort: 15008,
});
const condition = (mesh: TestMesh): string | undefined => mesh.conditions("Service/shop/web")[0];

test("own label over namespace label; a bad own label does not fall back; none and empty", () => {
  const base =
    namespace("shop", "istio.io/use-waypoint: ns-wp") + gateway("ns-wp") + gateway("own-wp");
  const cases = [
    { meta: "", want: BOUND("ns-wp"), reason: "True/WaypointAccepted" },
    {
      meta: "labels: {istio.io/use-waypoint: own-wp}",
      want: BOUND("own-wp"),
      reason: "True/WaypointAccepted",
    },
    {
      meta: "labels: {istio.io/use-waypoint: missing}",
      want: undefined,
      reason: "False/WaypointIsNotReady",
    },
    { meta: "labels: {istio.io/use-waypoint: none}", want: undefined, reason: undefined },
    {
      meta: "labels: {istio.io/use-waypoint: ''}",
      want: BOUND("ns-wp"),
      reason: "True/WaypointAccepted",
    },
    {
      meta: "labels: {gateway.istio.io/managed: istio.io-mesh-controller}",
      want: undefined,
      reason: undefined,
    },
  ];
  for (const { meta, want, reason } of cases) {
    const mesh = new TestMesh(base + service("web", SPEC, meta));
    assert.deepEqual(mesh.service(WEB).waypoint, want, meta);
    assert.equal(
      condition(mesh),
      reason === undefined ? undefined : `istio.io/WaypointBound=${reason}`,
      meta,
    );
  }
});

test("another namespace's waypoint needs both its consent and the namespace label", () => {
  const label = "labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra}";
  const from = [
    { from: "", want: false },
    { from: "{from: Same}", want: false },
    { from: "{from: None}", want: false },
    { from: "{from: All}", want: true },
    { from: "{from: Selector, selector: {matchLabels: {team: a}}}", want: true },
    { from: "{from: Selector, selector: {matchLabels: {team: b}}}", want: false },
    {
      from: "{from: Selector, selector: {matchExpressions: [{key: team, operator: In}]}}",
      want: false,
    },
  ];
  for (const { from: allowed, want } of from) {
    const mesh = new TestMesh(
      namespace("shop", "team: a") +
        gateway("wp", { ns: "infra", from: allowed }) +
        service("web", SPEC, label),
    );
    assert.deepEqual(mesh.service(WEB).waypoint, want ? BOUND("wp", "infra") : undefined, allowed);
    assert.equal(
      condition(mesh),
      `istio.io/WaypointBound=${want ? "True/WaypointAccepted" : "False/AttachmentDenied"}`,
      allowed,
    );
  }
});

test("a Gateway counts from its first address on, and stays when its Pods go", () => {
  const mesh = new TestMesh(
    namespace("shop", "istio.io/use-waypoint: wp") +
      service("web", SPEC) +
      gateway("wp", { address: "" }),
  );
  assert.equal(mesh.service(WEB).waypoint, undefined);
  const delta = mesh.apply(gateway("wp"));
  assert.deepEqual(delta.addresses.updated, [WEB]);
  assert.deepEqual(mesh.service(WEB).waypoint, BOUND("wp"));
  mesh.apply(gateway("wp", { address: "{type: IPAddress, value: nonsense}, {value: 10.1.2.3}" }));
  assert.deepEqual(mesh.service(WEB).waypoint, {
    address: { address: "10.1.2.3" },
    hboneMtlsPort: 15008,
  });
});

const TYPES = [
  { label: "", service: true, workload: false },
  { label: "service", service: true, workload: false },
  { label: "workload", service: false, workload: true },
  { label: "all", service: true, workload: true },
  { label: "none", service: false, workload: false },
  { label: "odd", service: false, workload: false },
];
for (const type of TYPES)
  test(`a waypoint for ${type.label === "" ? "nothing said" : type.label}`, () => {
    const meta = type.label === "" ? "" : `labels: {istio.io/waypoint-for: ${type.label}}`;
    const mesh = new TestMesh(
      namespace("shop", "istio.io/use-waypoint: wp") +
        gateway("wp", { meta }) +
        service("web", SPEC) +
        pod("web") +
        istio("WorkloadEntry", "vm", "address: 10.2.0.1") +
        istio("WorkloadEntry", "own", "address: 10.2.0.2, labels: {istio.io/use-waypoint: wp}"),
    );
    assert.equal(mesh.service(WEB).waypoint !== undefined, type.service);
    assert.equal(
      condition(mesh),
      `istio.io/WaypointBound=${type.service ? "True/WaypointAccepted" : "False/UnsupportedTrafficType"}`,
    );
    assert.equal(mesh.workload("shop/web").waypoint !== undefined, type.workload);
    const bound = type.workload ? ["istio.io/WaypointBound=True/WaypointAccepted"] : [];
    assert.deepEqual(mesh.conditions("WorkloadEntry/shop/vm"), bound, "inherited: no error");
    const own = type.workload ? bound : ["istio.io/WaypointBound=False/UnsupportedTrafficType"];
    assert.deepEqual(mesh.conditions("WorkloadEntry/shop/own"), own, "own label: an error");
  });

test("the class gives what the Gateway leaves open", () => {
  const cls =
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: istio-waypoint, labels: {istio.io/waypoint-for: all}, annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}}\n";
  const instance = pod("wp-1", { labels: "gateway.networking.k8s.io/gateway-name: wp" });
  const mesh = new TestMesh(
    namespace("shop", "istio.io/use-waypoint: wp") +
      gateway("wp") +
      pod("web", { ip: "10.0.0.2" }) +
      instance,
  );
  assert.equal(mesh.workload("shop/web").waypoint, undefined);
  mesh.apply(cls);
  assert.deepEqual(mesh.workload("shop/web").waypoint, BOUND("wp"));
  assert.equal(mesh.workload("shop/wp-1").waypoint, undefined, "an instance has no waypoint");
  assert.deepEqual(mesh.workload("shop/wp-1").applicationTunnel, {
    protocol: "PROXY",
    port: 15088,
  });
  mesh.apply(
    gateway("wp", { meta: "annotations: {ambient.istio.io/waypoint-inbound-binding: BOGUS/1}" }),
  );
  assert.equal(mesh.workload("shop/wp-1").applicationTunnel, undefined);
});

test("canary: weights, and errors that leave the primary bound", () => {
  const at = (canary: string, weight?: string): TestMesh =>
    new TestMesh(
      gateway("a") +
        gateway("b") +
        gateway("w", { meta: "labels: {istio.io/waypoint-for: workload}" }) +
        service(
          "web",
          SPEC,
          `labels: {istio.io/use-waypoint: a, istio.io/use-waypoint-canary: ${canary}}${weight === undefined ? "" : `, annotations: {istio.io/use-waypoint-canary-weight: '${weight}'}`}`,
        ),
    );
  const weights = at("b", "30").service(WEB).weightedWaypoints;
  assert.deepEqual(weights, [
    { destination: BOUND("a"), weight: 70 },
    { destination: BOUND("b"), weight: 30 },
  ]);
  assert.deepEqual(at("b").service(WEB).weightedWaypoints[0].weight, 100);
  for (const [canary, weight, message] of [
    ["a", "1", /primary/],
    ["b", "101", /weight/],
    ["b", "1.5", /weight/],
    ["c", "1", /does not exist/],
    ["w", "1", /workload/],
  ] as const) {
    const mesh = at(canary, weight);
    assert.deepEqual(mesh.service(WEB).waypoint, BOUND("a"));
    assert.equal(mesh.service(WEB).weightedWaypoints, undefined);
    assert.match(
      mesh.translator.conditions().get("Service/shop/web")?.conditions[0]?.message ?? "",
      message,
    );
  }
});

test("the namespace's canary counts only when the object names no waypoint itself", () => {
  const ns =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/use-waypoint: a, istio.io/use-waypoint-canary: b}, annotations: {istio.io/use-waypoint-canary-weight: '5'}}\n";
  const inherited = new TestMesh(ns + gateway("a") + gateway("b") + service("web", SPEC));
  assert.equal(inherited.service(WEB).weightedWaypoints[1].weight, 5);
  const own = new TestMesh(
    ns + gateway("a") + gateway("b") + service("web", SPEC, "labels: {istio.io/use-waypoint: a}"),
  );
  assert.equal(own.service(WEB).weightedWaypoints, undefined);
});

test("ingress through the waypoint: the object's word before the namespace's, read as Go reads booleans", () => {
  for (const [own, ns, want] of [
    ["", "true", true],
    ["'false'", "true", undefined],
    ["T", "", true],
    ["maybe", "true", undefined],
    ["", "", undefined],
  ] as const) {
    const label = own === "" ? "" : `, istio.io/ingress-use-waypoint: ${own}`;
    const nsLabel = ns === "" ? "a: b" : "istio.io/ingress-use-waypoint: 'true'";
    const mesh = new TestMesh(
      namespace("shop", nsLabel) +
        gateway("wp") +
        service("web", SPEC, `labels: {istio.io/use-waypoint: wp${label}}`),
    );
    assert.equal(mesh.service(WEB).ingressUseWaypoint, want, `${own} ${ns}`);
  }
});

test("the implicit ALLOW follows the waypoint's Pods and reaches all it stands before", () => {
  const wp = pod("wp-1", { ip: "10.0.0.8", labels: "gateway.networking.k8s.io/gateway-name: wp" });
  const mesh = new TestMesh(
    gateway("wp") + service("web", SPEC, "labels: {istio.io/use-waypoint: wp}") + pod("web"),
    { autoAllowWaypointPolicy: true },
  );
  assert.equal(mesh.translator.authorizations().size, 0);
  mesh.apply(wp);
  const name = "shop/istio_allow_waypoint_shop_wp";
  assert.deepEqual(mesh.policy(name).rules, [
    { clauses: [{ matches: [{ principals: [{ exact: "cluster.local/ns/shop/sa/wp-1" }] }] }] },
  ]);
  assert.deepEqual(mesh.workload("shop/web").authorizationPolicies, [name]);
  mesh.remove(wp);
  assert.equal(mesh.workload("shop/web").authorizationPolicies, undefined);
  assert.equal(mesh.translator.authorizations().size, 0);
});

test("policies that target things hear whether those have a waypoint", () => {
  const ap = (name: string, refs: string, ns = "shop"): string =>
    istio("AuthorizationPolicy", name, `targetRefs: [${refs}]`, { ns });
  const bound = "{group: '', kind: Service, name: web}";
  const loose = "{group: '', kind: Service, name: loose}";
  const cls = "{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}";
  const mesh = new TestMesh(
    gateway("wp") +
      service("web", SPEC, "labels: {istio.io/use-waypoint: wp}") +
      service("loose", SPEC) +
      ap("ok", bound) +
      ap("unbound", loose) +
      ap("partial", `${bound}, ${loose}`) +
      ap("no", `${loose}, ${loose}`) +
      ap("gw", "{group: gateway.networking.k8s.io, kind: Gateway, name: wp}") +
      ap("nogw", "{group: gateway.networking.k8s.io, kind: Gateway, name: x}") +
      ap("class", cls) +
      ap("class", cls, "istio-system") +
      ap("odd", "{group: apps, kind: Deployment, name: x}") +
      ap("far", "{group: '', kind: Service, name: web, namespace: else}"),
  );
  const of = (name: string, ns = "shop"): string[] =>
    mesh.conditions(`AuthorizationPolicy/${ns}/${name}`);
  assert.deepEqual(of("ok"), ["WaypointAccepted=True/Accepted"]);
  assert.deepEqual(of("unbound"), ["WaypointAccepted=False/AncestorNotBound"]);
  assert.deepEqual(of("partial"), ["WaypointAccepted=True/PartiallyInvalid"]);
  assert.deepEqual(of("no"), ["WaypointAccepted=False/Invalid"]);
  assert.deepEqual(of("gw"), ["WaypointAccepted=True/Accepted"]);
  assert.deepEqual(of("nogw"), ["WaypointAccepted=False/TargetNotFound"]);
  assert.deepEqual(of("class"), ["WaypointAccepted=False/Invalid"]);
  assert.deepEqual(of("class", "istio-system"), ["WaypointAccepted=True/Accepted"]);
  assert.deepEqual(of("odd"), ["WaypointAccepted=False/Invalid"]);
  assert.deepEqual(of("far"), ["WaypointAccepted=False/Invalid"]);
});
