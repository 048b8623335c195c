// Every combination of modes at mesh, namespace and workload level with every kind of port override:
// what a plaintext and an authenticated peer may do must follow from the modes alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { istio, type Loose, pod, TestMesh } from "./test-mesh.ts";

type Mode = "absent" | "UNSET" | "STRICT" | "PERMISSIVE" | "DISABLE";
const MODES: readonly Mode[] = ["absent", "UNSET", "STRICT", "PERMISSIVE", "DISABLE"];
const OVERRIDES: readonly Readonly<Record<string, Mode>>[] = [
  {},
  { "80": "STRICT" },
  { "80": "PERMISSIVE" },
  { "80": "DISABLE" },
  { "80": "UNSET" },
  { "80": "STRICT", "81": "PERMISSIVE", "82": "DISABLE", "83": "STRICT" },
];
const PORTS = [80, 81, 82, 83, 9999];

function peer(name: string, mode: Mode, ns: string, rest = ""): string {
  return mode === "absent"
    ? ""
    : istio("PeerAuthentication", name, `mtls: {mode: ${mode}}${rest}`, { ns });
}

/** What an operator expects of one port, straight from the documentation of the modes. */
function wantStrict(levels: readonly Mode[], override: Mode | undefined): boolean {
  const decided = [override ?? "absent", ...levels].find((m) => m !== "absent" && m !== "UNSET");
  return decided === "STRICT";
}

/** Whether one of the policies the workload names denies this connection, evaluated as ztunnels do. */
function denied(mesh: TestMesh, port: number, isAuthenticated: boolean): boolean {
  const names: string[] = mesh.workload("shop/web").authorizationPolicies ?? [];
  return names.some((name) => {
    const policy = mesh.policy(name);
    assert.notEqual(policy, undefined, `${name} is named but not published`);
    assert.equal(policy.action, "DENY");
    assert.equal(policy.scope, "WORKLOAD_SELECTOR");
    return (policy.rules ?? []).some((group: Loose) =>
      (group.clauses ?? []).every((clause: Loose) =>
        clause.matches.some((match: Loose) => {
          if (Object.keys(match).length === 0) return false;
          if (match.notPrincipals !== undefined && isAuthenticated) return false;
          if (match.destinationPorts !== undefined && !match.destinationPorts.includes(port))
            return false;
          return !(match.notDestinationPorts ?? []).includes(port);
        }),
      ),
    );
  });
}

for (const meshMode of MODES) {
  test(`mesh ${meshMode}: all namespace and workload modes, all port overrides`, () => {
    for (const nsMode of MODES)
      for (const own of MODES)
        for (const ports of own === "absent" ? [{}] : OVERRIDES) {
          const overrides = Object.entries(ports).map(([p, m]) => `'${p}': {mode: ${m}}`);
          const rest = `, selector: {matchLabels: {app: web}}, portLevelMtls: {${overrides.join(", ")}}`;
          const mesh = new TestMesh(
            pod("web") +
              pod("other", { ip: "10.0.0.2", labels: "app: other" }) +
              peer("mesh", meshMode, "istio-system") +
              peer("ns", nsMode, "shop") +
              peer("own", own, "shop", rest),
          );
          const label = `${meshMode}/${nsMode}/${own}/${JSON.stringify(ports)}`;
          for (const port of PORTS) {
            const override = (ports as Record<string, Mode>)[String(port)];
            const want = wantStrict([own, nsMode, meshMode], override);
            assert.equal(denied(mesh, port, false), want, `${label} plaintext to ${port}`);
            assert.equal(denied(mesh, port, true), false, `${label} mutual TLS to ${port}`);
          }
          assert.ok((mesh.workload("shop/web").authorizationPolicies ?? []).length <= 1, label);
          const named = mesh.workload("shop/other").authorizationPolicies ?? [];
          assert.equal(named.length === 1, wantStrict([nsMode, meshMode], undefined), label);
        }
  });
}

test("per level the oldest policy counts; ties go by name", () => {
  const at = (time: string): string => `creationTimestamp: '${time}'`;
  const pa = (name: string, mode: string, time: string): string =>
    istio("PeerAuthentication", name, `mtls: {mode: ${mode}}`, { meta: at(time) });
  const mesh = new TestMesh(
    pod("web") +
      pa("b", "STRICT", "2026-01-02T00:00:00Z") +
      pa("z", "PERMISSIVE", "2026-01-01T00:00:00Z"),
  );
  assert.equal(mesh.workload("shop/web").authorizationPolicies, undefined);
  mesh.apply(pa("a", "STRICT", "2026-01-01T00:00:00Z"));
  assert.deepEqual(mesh.workload("shop/web").authorizationPolicies, [
    "istio-system/istio_converted_static_strict",
  ]);
});

test("selector policies of the root namespace are ignored; none at all publishes nothing", () => {
  const mesh = new TestMesh(pod("web", { ns: "istio-system" }));
  assert.equal(mesh.translator.authorizations().size, 0);
  const own = istio(
    "PeerAuthentication",
    "own",
    "selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {'80': {mode: DISABLE}}",
    { ns: "istio-system" },
  );
  mesh.apply(own);
  assert.equal(mesh.workload("istio-system/web").authorizationPolicies, undefined);
  assert.deepEqual(
    [...mesh.translator.authorizations().keys()],
    ["istio-system/istio_converted_static_strict"],
  );
  const delta = mesh.remove(own);
  assert.deepEqual(delta.authorizations.removed, ["istio-system/istio_converted_static_strict"]);
});
