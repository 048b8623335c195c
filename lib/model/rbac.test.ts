import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCidr } from "../net/cidr.ts";
import { parseIp } from "../net/ip.ts";
import { parseSpiffeId } from "../net/spiffe.ts";
import type { Authorization, Match, StringMatch } from "./authorization.ts";
import type { PolicyConn } from "./policy-match.ts";
import { authorize, denialReason, NO_POLICIES, policySet } from "./rbac.ts";
import { match, policy } from "./test-mesh.ts";

const exact = (value: string): StringMatch => ({ kind: "exact", value });
const PRESENCE: StringMatch = { kind: "presence" };

function conn(identity: string | null, part: Partial<PolicyConn> = {}): PolicyConn {
  return {
    sourceIp: parseIp("10.0.1.9"),
    identity: identity === null ? null : parseSpiffeId(`spiffe://${identity}`),
    destinationIp: parseIp("10.0.2.4"),
    destinationPort: 80,
    ...part,
  };
}

const ANON = conn(null);
const IN_A = conn("cluster.local/ns/a/sa/x");
const IN_B = conn("cluster.local/ns/b/sa/x");

const one = (m: Partial<Match>): Authorization["rules"] => [[[match(m)]]];
const strict = policy("Deny", one({ notPrincipals: [PRESENCE] }), {
  key: "istio-system/istio_converted_static_strict",
});
const allowA = policy("Allow", one({ namespaces: [exact("a")] }), { key: "ns/allow-a" });

// The examples of the contract, one row each: who passes.
for (const c of [
  { name: "no policies", set: [], want: [true, true, true] },
  { name: "static strict only", set: [strict], want: [false, true, true] },
  { name: "ALLOW namespaces=[a]", set: [allowA], want: [false, true, false] },
  {
    name: "ALLOW namespaces=[a] or ports=[80]",
    set: [allowA, policy("Allow", one({ destinationPorts: [80] }))],
    want: [true, true, true],
  },
  {
    name: "DENY not_namespaces=[a]",
    set: [policy("Deny", one({ notNamespaces: [exact("a")] }))],
    want: [false, true, false],
  },
  {
    name: "DENY prefix of b and ALLOW with zero rules",
    set: [
      policy("Deny", one({ principals: [{ kind: "prefix", value: "cluster.local/ns/b/" }] })),
      policy("Allow", []),
    ],
    want: [false, false, false],
  },
  { name: "dry-run ALLOW only", set: [{ ...allowA, dryRun: true }], want: [true, true, true] },
])
  test(`policy example: ${c.name}`, () => {
    const set = policySet(c.set);
    const got = [ANON, IN_A, IN_B].map((q) => authorize(set, q).kind === "allow");
    assert.deepEqual(got, c.want);
  });

// What each shape of emptiness means, for an ALLOW policy asked by a peer in namespace a.
for (const c of [
  { name: "policy with zero rules never matches", rules: [], want: false },
  { name: "rule with zero clauses matches everything", rules: [[]], want: true },
  { name: "clause with zero matches matches everything", rules: [[[]]], want: true },
  { name: "match with all fields empty cannot match", rules: [[[match({})]]], want: false },
  {
    name: "empty match beside one that holds",
    rules: [[[match({}), match({ namespaces: [exact("a")] })]]],
    want: true,
  },
  {
    name: "clauses are ANDed",
    rules: [[[match({ namespaces: [exact("a")] })], [match({ destinationPorts: [81] })]]],
    want: false,
  },
  {
    name: "rules are ORed",
    rules: [[[match({ namespaces: [exact("z")] })]], [[match({ destinationPorts: [80] })]]],
    want: true,
  },
])
  test(`degenerate policy: ${c.name}`, () => {
    assert.equal(authorize(policySet([policy("Allow", c.rules)]), IN_A).kind === "allow", c.want);
  });

const V6 = { sourceIp: parseIp("fd00::9"), destinationIp: parseIp("fd00:2::4") };
for (const c of [
  { name: "exact namespace", m: { namespaces: [exact("a")] }, conn: IN_A, want: true },
  { name: "namespace is case-sensitive", m: { namespaces: [exact("A")] }, conn: IN_A, want: false },
  { name: "plaintext has namespace ''", m: { namespaces: [exact("")] }, conn: ANON, want: true },
  { name: "namespace presence needs one", m: { namespaces: [PRESENCE] }, conn: ANON, want: false },
  {
    name: "not namespace holds for plaintext",
    m: { notNamespaces: [exact("a")] },
    conn: ANON,
    want: true,
  },
  { name: "prefix", m: { namespaces: [{ kind: "prefix", value: "a" }] }, conn: IN_A, want: true },
  {
    name: "suffix",
    m: { principals: [{ kind: "suffix", value: "/sa/x" }] },
    conn: IN_A,
    want: true,
  },
  {
    name: "principal has no scheme",
    m: { principals: [exact("spiffe://cluster.local/ns/a/sa/x")] },
    conn: IN_A,
    want: false,
  },
  {
    name: "principal exact",
    m: { principals: [exact("cluster.local/ns/a/sa/x")] },
    conn: IN_A,
    want: true,
  },
  {
    name: "no identity, no principal",
    m: { principals: [{ kind: "prefix", value: "" }] },
    conn: ANON,
    want: false,
  },
  { name: "no identity, no presence", m: { principals: [PRESENCE] }, conn: ANON, want: false },
  {
    name: "not principal presence means plaintext",
    m: { notPrincipals: [PRESENCE] },
    conn: ANON,
    want: true,
  },
  {
    name: "service account",
    m: { serviceAccounts: [{ namespace: "a", serviceAccount: "x" }] },
    conn: IN_A,
    want: true,
  },
  {
    name: "service account of any trust domain",
    m: { serviceAccounts: [{ namespace: "a", serviceAccount: "x" }] },
    conn: conn("other.org/ns/a/sa/x"),
    want: true,
  },
  {
    name: "service account of another namespace",
    m: { serviceAccounts: [{ namespace: "b", serviceAccount: "x" }] },
    conn: IN_A,
    want: false,
  },
  {
    name: "no identity is no service account",
    m: { serviceAccounts: [{ namespace: "", serviceAccount: "" }] },
    conn: ANON,
    want: false,
  },
  {
    name: "not service account holds without identity",
    m: { notServiceAccounts: [{ namespace: "a", serviceAccount: "x" }] },
    conn: ANON,
    want: true,
  },
  { name: "source range", m: { sourceIps: [parseCidr("10.0.0.0/16")] }, conn: IN_A, want: true },
  {
    name: "source outside range",
    m: { sourceIps: [parseCidr("10.1.0.0/16")] },
    conn: IN_A,
    want: false,
  },
  { name: "families never match", m: { sourceIps: [parseCidr("::/0")] }, conn: IN_A, want: false },
  {
    name: "IPv6 source",
    m: { sourceIps: [parseCidr("fd00::/64")] },
    conn: conn(null, V6),
    want: true,
  },
  { name: "not source", m: { notSourceIps: [parseCidr("10.0.1.9")] }, conn: IN_A, want: false },
  {
    name: "destination",
    m: { destinationIps: [parseCidr("10.0.2.4/32")] },
    conn: IN_A,
    want: true,
  },
  {
    name: "not destination",
    m: { notDestinationIps: [parseCidr("10.0.2.0/24")] },
    conn: IN_A,
    want: false,
  },
  { name: "port", m: { destinationPorts: [79, 80] }, conn: IN_A, want: true },
  { name: "not port", m: { notDestinationPorts: [80] }, conn: IN_A, want: false },
  {
    name: "positive and negative of a kind",
    m: { namespaces: [PRESENCE], notNamespaces: [exact("a")] },
    conn: IN_A,
    want: false,
  },
] satisfies { name: string; m: Partial<Match>; conn: PolicyConn; want: boolean }[])
  test(`match: ${c.name}`, () => {
    assert.equal(authorize(policySet([policy("Deny", one(c.m))]), c.conn).kind === "deny", c.want);
  });

test("a DENY wins over an ALLOW that matches", () => {
  const v = authorize(policySet([allowA, policy("Deny", [[]], { key: "ns/all" })]), IN_A);
  assert.equal(v.kind, "deny");
  assert.equal(v.kind === "deny" && v.policy, "ns/all");
});

test("an allowed connection carries a permit that names its policy", () => {
  const v = authorize(policySet([allowA]), IN_A);
  assert.ok(v.kind === "allow");
  assert.deepEqual({ ...v.permit }, { conn: IN_A, by: "ns/allow-a" });
  const free = authorize(NO_POLICIES, ANON);
  assert.equal(free.kind === "allow" && free.by, null);
});

test("dry-run policies leave notes and decide nothing", () => {
  const dry = { ...allowA, dryRun: true };
  const dryDeny = policy("Deny", [[]], { key: "ns/dry-deny", dryRun: true });
  assert.deepEqual(authorize(policySet([dry]), IN_A).notes, [
    { policy: "ns/allow-a", would: "allow" },
  ]);
  assert.deepEqual(authorize(policySet([dry]), IN_B).notes, [{ policy: null, would: "deny" }]);
  assert.deepEqual(authorize(policySet([dryDeny]), IN_B).notes, [
    { policy: "ns/dry-deny", would: "deny" },
  ]);
  const both = authorize(policySet([dry, policy("Allow", [])]), IN_B);
  assert.deepEqual([both.kind, both.notes], ["unmatched", []]);
});

test("the nearest miss is the rule that fails in the fewest fields", () => {
  const far = policy("Allow", [[[match({ namespaces: [exact("z")], destinationPorts: [1] })]]], {
    key: "ns/far",
  });
  const near = policy(
    "Allow",
    [
      [[match({ destinationPorts: [1] })], [match({ namespaces: [exact("z")] })]],
      [[match({ principals: [exact("cluster.local/ns/a/sa/y")], destinationPorts: [80] })]],
    ],
    { key: "ns/near" },
  );
  const v = authorize(policySet([far, near]), IN_A, "evidence");
  assert.ok(v.kind === "unmatched");
  assert.deepEqual(v.nearestMiss, {
    policy: "ns/near",
    rule: 2,
    field: "principals",
    want: "cluster.local/ns/a/sa/y",
    got: "cluster.local/ns/a/sa/x",
  });
  assert.deepEqual(
    v.evidence.map((e) => [e.policy, e.rule, e.matched, e.miss?.field]),
    [
      ["ns/far", 1, false, "namespaces"],
      ["ns/near", 1, false, "destinationPorts"],
      ["ns/near", 2, false, "principals"],
    ],
  );
});

test("evidence never changes the verdict", () => {
  const sets = [
    [],
    [strict],
    [allowA],
    [allowA, strict],
    [policy("Allow", [])],
    [policy("Allow", one({}))],
  ];
  for (const set of sets)
    for (const q of [ANON, IN_A, IN_B])
      assert.equal(
        authorize(policySet(set), q).kind,
        authorize(policySet(set), q, "evidence").kind,
      );
});

test("reasons tell strict mTLS, an explicit deny and a missing allow apart", () => {
  const refused = (set: Authorization[], q: PolicyConn) => {
    const v = authorize(policySet(set), q);
    assert.ok(v.kind !== "allow");
    return denialReason(v);
  };
  assert.equal(refused([strict], ANON), "mtls_required");
  assert.equal(refused([policy("Deny", [[]])], ANON), "policy_explicit_deny");
  assert.equal(refused([allowA], ANON), "policy_no_allow_match");
});
