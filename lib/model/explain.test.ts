import assert from "node:assert/strict";
import { test } from "node:test";
import { tryParseSocketAddr } from "../net/ip.ts";
import { explainConnection, type ExplainRequest } from "./explain.ts";
import type { Explanation } from "./explanation.ts";
import { authorize } from "./rbac.ts";
import type { MeshTables } from "./tables.ts";
import {
  byHostname,
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
import type { Authorization, StringMatch } from "./authorization.ts";
import { identityOf } from "./workload.ts";

const exact = (value: string): StringMatch => ({ kind: "exact", value });
const CURL = workload("curl", { namespace: "shop", addresses: ips("10.0.1.9") });
const CART = workload("cart-1", {
  namespace: "shop",
  addresses: ips("10.0.2.4"),
  serviceAccount: "cart",
  node: "node-2",
  services: serves("shop/cart.shop.svc.cluster.local"),
});
const SERVICE = service("cart", { namespace: "shop", vips: vips("10.96.0.20") });
const WP_SERVICE = service("waypoint", { namespace: "shop", ports: ports({ 15008: 15008 }) });
const WP = workload("waypoint-1", {
  namespace: "shop",
  addresses: ips("10.0.3.3"),
  serviceAccount: "waypoint",
  services: serves("shop/waypoint.shop.svc.cluster.local"),
});
const VIEWER = policy(
  "Allow",
  [[[match({ principals: [exact("cluster.local/ns/shop/sa/curl")] })]]],
  {
    name: "cart-viewer",
    namespace: "shop",
  },
);
const STRICT = policy("Deny", [[[match({ notPrincipals: [{ kind: "presence" }] })]]], {
  key: "istio-system/istio_converted_static_strict",
  scope: "Global",
});

function explain(
  tables: MeshTables,
  dial: string,
  part: Partial<ExplainRequest> = {},
): Explanation {
  const destination = tryParseSocketAddr(dial);
  assert.ok(destination !== null);
  return explainConnection(tables, { source: CURL, destination, network: "net1", ...part });
}

const stages = (e: Explanation) => e.stages.map((s) => `${s.id}:${s.result}`).join(" ");

test("a plain mesh call is allowed, stage by stage", () => {
  const e = explain(
    mesh({ services: [SERVICE], workloads: [CURL, CART], policies: [VIEWER] }),
    "10.96.0.20:80",
  );
  assert.equal(e.verdict, "allowed");
  assert.equal(e.deniedAt, null);
  assert.equal(
    stages(e),
    "S1:choose S2:choose S3:pass S4:choose S6:choose D1:pass D2:pass D3:pass D4:pass D5:pass",
  );
  assert.deepEqual(
    e.path.map((h) => [h.hop, h.kind, h.name, h.protocol, h.address]),
    [
      [1, "source", "curl", null, "10.0.1.9"],
      [2, "endpoint", "cart-1", "HBONE", "10.0.2.4:15008"],
    ],
  );
  assert.equal(e.path[1]?.identity, "spiffe://cluster.local/ns/shop/sa/cart");
});

test("behind a waypoint the policy sees the waypoint: denied, with the nearest miss and a fix", () => {
  const tables = mesh({
    services: [
      { ...SERVICE, waypoint: byHostname("shop", "waypoint.shop.svc.cluster.local") },
      WP_SERVICE,
    ],
    workloads: [CURL, CART, WP],
    policies: [VIEWER],
  });
  const e = explain(tables, "10.96.0.20:80");
  assert.equal(e.verdict, "denied");
  assert.equal(e.deniedAt, "D4");
  assert.deepEqual(
    e.path.map((h) => h.kind),
    ["source", "waypoint", "endpoint"],
  );
  assert.deepEqual(e.nearestMiss, {
    policy: "shop/cart-viewer",
    rule: 1,
    field: "principals",
    want: "cluster.local/ns/shop/sa/curl",
    got: "cluster.local/ns/shop/sa/waypoint",
  });
  assert.match(e.notes[0] ?? "", /waypoint's identity/);
  assert.deepEqual(e.fixes, [
    {
      text: "add principal cluster.local/ns/shop/sa/waypoint to rule 1 of AuthorizationPolicy shop/cart-viewer",
    },
  ]);
  assert.deepEqual(e.stages.at(-1)?.objects, [
    { kind: "AuthorizationPolicy", namespace: "shop", name: "cart-viewer" },
  ]);
});

for (const c of [
  {
    name: "an unknown address",
    tables: mesh({ workloads: [CURL] }),
    dial: "93.184.216.34:443",
    verdict: "plaintext",
    at: null,
  },
  {
    name: "a pod outside the mesh",
    tables: mesh({ services: [SERVICE], workloads: [{ ...CART, protocol: "TCP" }] }),
    dial: "10.96.0.20:80",
    verdict: "plaintext",
    at: null,
  },
  {
    name: "a service without endpoints",
    tables: mesh({ services: [SERVICE] }),
    dial: "10.96.0.20:80",
    verdict: "unroutable",
    at: "S4",
  },
  {
    name: "a missing waypoint",
    tables: mesh({
      services: [{ ...SERVICE, waypoint: byHostname("shop", "gone") }],
      workloads: [CART],
    }),
    dial: "10.96.0.20:80",
    verdict: "unroutable",
    at: "S3",
  },
  {
    name: "a waypoint whose service has no endpoint",
    tables: mesh({
      services: [
        { ...SERVICE, waypoint: byHostname("shop", "waypoint.shop.svc.cluster.local") },
        WP_SERVICE,
      ],
      workloads: [WP],
    }),
    dial: "10.96.0.20:80",
    verdict: "unroutable",
    at: "W1",
  },
  {
    name: "a port of the proxy",
    tables: mesh({ workloads: [CART] }),
    dial: "10.0.2.4:15006",
    verdict: "unroutable",
    at: "D3",
  },
  {
    name: "an uncaptured source meets strict mTLS",
    tables: mesh({ workloads: [CART], policies: [STRICT] }),
    dial: "10.0.2.4:80",
    source: { ...CURL, protocol: "TCP" as const },
    verdict: "denied",
    at: "D4",
  },
  {
    name: "an uncaptured source without strict mTLS",
    tables: mesh({ services: [SERVICE], workloads: [CART] }),
    dial: "10.96.0.20:80",
    source: { ...CURL, protocol: "TCP" as const },
    verdict: "plaintext",
    at: null,
  },
])
  test(`explain: ${c.name}`, () => {
    const e = explain(c.tables, c.dial, c.source === undefined ? {} : { source: c.source });
    assert.equal(e.verdict, c.verdict);
    assert.equal(e.deniedAt, c.at);
  });

test("strict mTLS asks for enrolment of the source", () => {
  const e = explain(mesh({ workloads: [CART], policies: [STRICT] }), "10.0.2.4:80", {
    source: { ...CURL, protocol: "TCP" },
  });
  assert.equal(e.fixes[0]?.command, "ambit enroll ns/shop");
  assert.equal(e.path[1]?.protocol, "TCP");
});

test("unknown policies, dry runs and another identity are told", () => {
  const tables = mesh({
    workloads: [{ ...CART, authorizationPolicies: ["shop/gone"] }],
    policies: [{ ...VIEWER, dryRun: true }],
  });
  const e = explain(tables, "10.0.2.4:80", { asIdentity: identityOf(WP) });
  assert.equal(e.verdict, "allowed");
  assert.match(e.notes.join("\n"), /shop\/gone, which is not known/);
  assert.match(e.notes.join("\n"), /would deny/);
});

test("every explanation is plain JSON", () => {
  const e = explain(
    mesh({ services: [SERVICE], workloads: [CART], policies: [VIEWER] }),
    "10.96.0.20:80",
  );
  assert.deepEqual(JSON.parse(JSON.stringify(e)), e);
});

test("explanation and data plane agree on generated policies", () => {
  let seed = 3;
  const next = (n: number) => (seed = (seed * 48_271) % 2_147_483_647) % n;
  const pick = <T>(...options: T[]): T => options[next(options.length)] as T;
  const someMatch = () =>
    match({
      namespaces: pick([], [exact("shop")], [exact("other")]),
      notNamespaces: pick([], [], [exact("shop")]),
      principals: pick(
        [],
        [],
        [exact("cluster.local/ns/shop/sa/curl")],
        [{ kind: "presence" as const }],
      ),
      notPrincipals: pick([], [], [{ kind: "presence" as const }]),
      destinationPorts: pick([], [80], [8080]),
      notDestinationPorts: pick([], [], [8080]),
    });
  const some = <T>(max: number, make: () => T): T[] => Array.from({ length: next(max + 1) }, make);
  const somePolicy = (i: number): Authorization =>
    policy(
      pick("Allow", "Deny"),
      some(2, () => some(2, () => some(2, someMatch))),
      {
        name: `p${i}`,
        namespace: "shop",
        dryRun: next(5) === 0,
      },
    );
  const seen = new Set<string>();
  for (let i = 0; i < 500; i++) {
    const tables = mesh({ workloads: [CART], policies: some(3, () => somePolicy(next(100))) });
    const source = pick(CURL, { ...CURL, protocol: "TCP" as const });
    const port = pick(80, 8080);
    const e = explain(tables, `10.0.2.4:${port}`, { source });
    const verdict = authorize(tables.policiesFor(CART), {
      sourceIp: CURL.addresses[0] ?? assert.fail(),
      identity: source.protocol === "HBONE" ? identityOf(source) : null,
      destinationIp: CART.addresses[0] ?? assert.fail(),
      destinationPort: port,
    });
    assert.equal(e.verdict === "denied", verdict.kind !== "allow");
    if (verdict.kind === "unmatched" && e.nearestMiss !== null) assert.ok(e.fixes.length > 0);
    seen.add(`${e.verdict} ${verdict.kind}`);
  }
  assert.deepEqual([...seen].sort(), [
    "allowed allow",
    "denied deny",
    "denied unmatched",
    "plaintext allow",
  ]);
});
