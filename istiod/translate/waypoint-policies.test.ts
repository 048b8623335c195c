// Policies with targetRefs: whom they reach, and what of them a waypoint enforces before it knows HTTP.
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeWaypointPolicy, type WaypointPolicy } from "#lib/model/waypoint-policy.ts";
import { istio, service, TestMesh } from "./test-mesh.ts";

const SERVICE = "targetRefs: [{group: '', kind: Service, name: web}]";
const GATEWAY = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]";
const CLASS =
  "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]";
const WEB = service("web", "clusterIP: 10.9.0.1, ports: [{name: tcp, port: 80}]");
const WEB_KEY = "shop/web.shop.svc.cluster.local";

function mesh(spec: string, ns = "shop", more = WEB): TestMesh {
  return new TestMesh(more + istio("AuthorizationPolicy", "p", spec, { ns }));
}

function sent(of: TestMesh, key = "shop/p"): WaypointPolicy | null {
  const found = of.translator.waypointPolicies().get(key);
  return found === undefined ? null : decodeWaypointPolicy(key, found.bytes);
}

test("a policy with targets goes to waypoints and never to ztunnels; one without, the other way round", () => {
  const targeted = mesh(`${SERVICE}, rules: [{}]`);
  assert.deepEqual(sent(targeted)?.targets, [{ kind: "service", key: WEB_KEY }]);
  assert.equal(targeted.translator.authorizations().size, 0);
  const plain = mesh("rules: [{}]");
  assert.equal(sent(plain), null);
  assert.equal(plain.translator.authorizations().size, 1);
});

test("targets: a Gateway, a class from the root namespace, every host of a ServiceEntry", () => {
  assert.deepEqual(sent(mesh(GATEWAY))?.targets, [{ kind: "gateway", key: "shop/wp" }]);
  assert.equal(sent(mesh(CLASS)), null);
  assert.deepEqual(sent(mesh(CLASS, "istio-system"), "istio-system/p")?.targets, [
    { kind: "gatewayClass", name: "istio-waypoint" },
  ]);
  const entry = istio(
    "ServiceEntry",
    "ext",
    "hosts: [b.example.com, a.example.com], ports: [{number: 80, name: tcp}], resolution: STATIC",
  );
  const ref = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: ext}]";
  assert.deepEqual(sent(mesh(ref, "shop", entry))?.targets, [
    { kind: "service", key: "shop/a.example.com" },
    { kind: "service", key: "shop/b.example.com" },
  ]);
  const foreign = "targetRefs: [{group: '', kind: Service, name: web, namespace: other}]";
  assert.equal(sent(mesh(foreign)), null);
});

test("the policy comes with its service and goes with it", () => {
  const world = mesh(SERVICE, "shop", "");
  assert.equal(sent(world), null);
  assert.deepEqual(world.apply(WEB).waypointPolicies, { updated: ["shop/p"], removed: [] });
  const relabelled = WEB.replace("namespace: shop", "namespace: shop, labels: {a: b}");
  assert.deepEqual(world.apply(relabelled).waypointPolicies, { updated: [], removed: [] });
  assert.deepEqual(world.remove(WEB).waypointPolicies, { updated: [], removed: ["shop/p"] });
});

for (const c of [
  { name: "ALLOW loses the rule", spec: "rules: [{to: [{operation: {paths: [/x]}}]}]", rules: [] },
  {
    name: "DENY takes what it cannot see as matching",
    spec: "action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]",
    rules: [[]],
  },
  {
    name: "CUSTOM denies what it picks out",
    spec: "action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {paths: [/x]}}]}]",
    rules: [[]],
  },
])
  test(`HTTP attributes: ${c.name}, and their names travel along`, () => {
    const policy = sent(mesh(`${SERVICE}, ${c.spec}`));
    assert.deepEqual(policy?.authorization.rules, c.rules);
    assert.ok(policy.unchecked.length > 0);
  });

test("DENY keeps the L4 part beside an HTTP attribute", () => {
  const rule = "to: [{operation: {methods: [GET], ports: ['80']}}]";
  const policy = sent(mesh(`${SERVICE}, action: DENY, rules: [{${rule}}]`));
  assert.deepEqual(policy?.authorization.rules[0]?.[0]?.[0]?.destinationPorts, [80]);
  assert.deepEqual(policy.unchecked, ["methods"]);
});

test("AUDIT blocks nothing; a dry run travels as one", () => {
  assert.equal(sent(mesh(`${SERVICE}, action: AUDIT, rules: [{}]`)), null);
  const dry = new TestMesh(
    WEB +
      istio("AuthorizationPolicy", "p", SERVICE, {
        meta: "annotations: {istio.io/dry-run: 'true'}",
      }),
  );
  assert.equal(sent(dry)?.authorization.dryRun, true);
});
