// AuthorizationPolicy at L4: scopes, values, and what happens to what a ztunnel cannot see.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TranslateConfig } from "./config.ts";
import { istio, type Loose, pod, TestMesh } from "./test-mesh.ts";

function translate(
  spec: string,
  options: { ns?: string; meta?: string } = {},
  config: Partial<TranslateConfig> = {},
): { policy: Loose; conditions: string[]; mesh: TestMesh } {
  const mesh = new TestMesh(pod("web") + istio("AuthorizationPolicy", "p", spec, options), config);
  const ns = options.ns ?? "shop";
  return {
    policy: mesh.policy(`${ns}/p`),
    conditions: mesh.conditions(`AuthorizationPolicy/${ns}/p`),
    mesh,
  };
}

test("scope: selector, namespace, or the whole mesh from the root namespace", () => {
  assert.equal(translate("").policy.scope, "NAMESPACE");
  assert.equal(translate("selector: {matchLabels: {a: b}}").policy.scope, "WORKLOAD_SELECTOR");
  const root = translate("action: DENY", { ns: "istio-system" });
  assert.equal(root.policy.scope, undefined); // GLOBAL is the default value
  assert.equal(root.mesh.workload("shop/web").authorizationPolicies, undefined);
});

test("an empty selector is every workload of its scope", () => {
  assert.equal(translate("selector: {}").policy.scope, "NAMESPACE");
  assert.equal(translate("selector: {matchLabels: {}}").policy.scope, "NAMESPACE");
});

test("a selector policy of the root namespace is named by workloads everywhere", () => {
  const { mesh } = translate("selector: {matchLabels: {app: web}}", { ns: "istio-system" });
  mesh.apply(
    istio("AuthorizationPolicy", "a", "selector: {matchLabels: {app: web}}") +
      istio("AuthorizationPolicy", "other", "selector: {matchLabels: {app: web}}", { ns: "else" }) +
      pod("bare", { ip: "10.0.0.9", labels: "" }),
  );
  assert.deepEqual(mesh.workload("shop/web").authorizationPolicies, ["istio-system/p", "shop/a"]);
  assert.equal(mesh.workload("shop/bare").authorizationPolicies, undefined);
});

test("an edit of a policy's rules leaves the workloads that name it alone", () => {
  const { mesh } = translate("selector: {matchLabels: {app: web}}, rules: [{}]");
  const delta = mesh.apply(
    istio("AuthorizationPolicy", "p", "selector: {matchLabels: {app: web}}"),
  );
  assert.deepEqual(delta.addresses.updated, []);
  assert.deepEqual(delta.authorizations.updated, ["shop/p"]);
});

const L7_RULES = [
  { name: "methods", rule: "to: [{operation: {methods: [GET]}}]" },
  { name: "paths beside ports", rule: "to: [{operation: {paths: [/x], ports: ['80']}}]" },
  { name: "request principals", rule: "from: [{source: {requestPrincipals: ['*']}}]" },
  { name: "remote ip blocks", rule: "from: [{source: {notRemoteIpBlocks: [10.0.0.0/8]}}]" },
  { name: "trust domains", rule: "from: [{source: {namespaces: [a], trustDomains: [x]}}]" },
  { name: "request header", rule: "when: [{key: 'request.headers[x]', values: [y]}]" },
  { name: "connection.sni", rule: "when: [{key: connection.sni, values: [y]}]" },
  { name: "source.serviceAccount", rule: "when: [{key: source.serviceAccount, values: [a/b]}]" },
  { name: "unreadable port", rule: "to: [{operation: {ports: ['80', http]}}]" },
  { name: "unreadable range", rule: "from: [{source: {ipBlocks: [10.0.0.0/99]}}]" },
  { name: "unreadable account", rule: "from: [{source: {serviceAccounts: [a/b/c]}}]" },
];
for (const { name, rule } of L7_RULES) {
  test(`ALLOW with ${name}: the rule goes, and the last one leaves a policy that allows nothing`, () => {
    const alone = translate(`rules: [{${rule}}]`);
    assert.equal(alone.policy.rules, undefined);
    assert.deepEqual(alone.conditions, ["ZtunnelAccepted=True/UnsupportedValue"]);
    const beside = translate(`rules: [{${rule}}, {from: [{source: {namespaces: [a]}}]}]`);
    assert.equal(beside.policy.rules.length, 1);
  });
}

test("DENY keeps its L4 part: an item of HTTP attributes alone never fires", () => {
  const { policy, conditions } = translate(
    "action: DENY, rules: [{from: [{source: {namespaces: [x]}}], to: [{operation: {methods: [GET]}}]}]",
  );
  assert.deepEqual(policy.rules, [
    { clauses: [{ matches: [{}] }, { matches: [{ namespaces: [{ exact: "x" }] }] }] },
  ]);
  assert.deepEqual(conditions, ["ZtunnelAccepted=True/UnsupportedValue"]);
  const broader = translate(
    "action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]",
  );
  assert.deepEqual(broader.policy.rules, [
    { clauses: [{ matches: [{ destinationPorts: [80] }] }] },
  ]);
  const text = (m: TestMesh): string =>
    m.translator.conditions().get("AuthorizationPolicy/shop/p")?.conditions[0]?.message ?? "";
  assert.match(text(broader.mesh), /methods.*denies more than was written/);
});

test("DENY under the stricter setting: what cannot be seen is taken as matching", () => {
  const strict = { l7DenyAtL4: "denied" as const };
  const rule =
    "action: DENY, rules: [{from: [{source: {namespaces: [x]}}], to: [{operation: {methods: [GET]}}]}]";
  assert.deepEqual(translate(rule, {}, strict).policy.rules, [
    { clauses: [{ matches: [{ namespaces: [{ exact: "x" }] }] }] },
  ]);
  assert.deepEqual(
    translate("action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]", {}, strict).policy.rules,
    [{}],
  );
});

test("actions, dry run and targets", () => {
  for (const action of ["AUDIT", "CUSTOM"]) {
    const { policy, conditions } = translate(`action: ${action}`);
    assert.equal(policy, undefined);
    assert.deepEqual(conditions, ["ZtunnelAccepted=False/UnsupportedValue"]);
  }
  const meta = "annotations: {istio.io/dry-run: 'true'}";
  assert.equal(translate("", { meta }).policy, undefined);
  assert.equal(translate("", { meta }, { dryRunPolicies: true }).policy.dryRun, true);
  assert.notEqual(
    translate("", { meta: "annotations: {istio.io/dry-run: maybe}" }).policy,
    undefined,
  );
  const targeted = translate("targetRefs: [{group: '', kind: Service, name: none}]", { meta });
  assert.equal(targeted.policy, undefined);
  assert.deepEqual(targeted.conditions, ["WaypointAccepted=False/TargetNotFound"]);
});
