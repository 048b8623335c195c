// The node authorizer's checks, each failing alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import type { AuthenticatedCaller } from "../authenticate.ts";
import { authorizeNode, type NodeAuthorizerOptions } from "./node-authorizer.ts";
import { PodIndex } from "./pod-index.ts";

const pod = (
  key: string,
  account: string,
  node: string,
  extra: { uid?: string; phase?: string } = {},
): Pod => {
  const [namespace = "", name = ""] = key.split("/");
  return {
    apiVersion: RESOURCES.pods.version,
    kind: "Pod",
    metadata: { name, namespace, uid: extra.uid ?? `uid-of-${name}` },
    spec: { serviceAccountName: account, nodeName: node },
    status: { phase: extra.phase ?? "Running" },
  };
};

function index(...pods: Pod[]): PodIndex {
  const pods_ = new PodIndex();
  pods_.update(pods.map((object) => ({ type: "added", object })));
  return pods_;
}

const PODS = index(
  pod("istio-system/ztunnel-x", "ztunnel", "worker-1"),
  pod("shop/cart-1", "cart", "worker-1"),
  pod("shop/done", "batch", "worker-1", { phase: "Succeeded" }),
  pod("shop/dead", "failed", "worker-1", { phase: "Failed" }),
  pod("shop/pay-1", "pay", "worker-2"),
  pod("shop/pending", "waiting", ""),
  pod("shop/plain", "", "worker-1"),
);
const OPTIONS: NodeAuthorizerOptions = {
  trustedAccounts: new Set(["istio-system/ztunnel"]),
  clusterId: "east",
  trustDomain: () => "cluster.local",
  pods: PODS,
};
const CALLER: AuthenticatedCaller = {
  namespace: "istio-system",
  serviceAccount: "ztunnel",
  podName: "ztunnel-x",
  podUid: "uid-of-ztunnel-x",
  clusterId: "east",
};
const id = (account: string, domain = "cluster.local"): string =>
  `spiffe://${domain}/ns/shop/sa/${account}`;

interface Case {
  readonly name: string;
  readonly caller?: Partial<AuthenticatedCaller>;
  readonly options?: Partial<NodeAuthorizerOptions>;
  readonly wanted?: string;
  readonly want: string;
}

const CASES: readonly Case[] = [
  { name: "a pod of its node", want: "allow" },
  { name: "a pod that has ended well", wanted: id("batch"), want: "allow" },
  { name: "the default account of a pod that names none", wanted: id("default"), want: "allow" },
  {
    name: "no trusted accounts",
    options: { trustedAccounts: new Set() },
    want: "no-trusted-accounts",
  },
  { name: "no cluster header", caller: { clusterId: "" }, want: "unknown-cluster" },
  { name: "another cluster", caller: { clusterId: "west" }, want: "unknown-cluster" },
  {
    name: "an account that is not trusted",
    caller: { serviceAccount: "cart" },
    want: "caller-not-trusted",
  },
  {
    name: "the account in another namespace",
    caller: { namespace: "shop" },
    want: "caller-not-trusted",
  },
  { name: "no identity", wanted: "cart", want: "malformed-identity" },
  { name: "too long an identity", wanted: `${id("cart")}/x`, want: "malformed-identity" },
  { name: "another trust domain", wanted: id("cart", "evil"), want: "foreign-trust-domain" },
  { name: "a token of no pod", caller: { podName: null }, want: "caller-pod-unknown" },
  { name: "a pod that is gone", caller: { podName: "ztunnel-y" }, want: "caller-pod-unknown" },
  {
    name: "a pod replaced by another of its name",
    caller: { podUid: "old" },
    want: "caller-pod-replaced",
  },
  { name: "a token without pod uid", caller: { podUid: null }, want: "caller-pod-replaced" },
  {
    name: "a pod that runs as another account",
    options: {
      pods: index(
        pod("istio-system/ztunnel-x", "other", "worker-1"),
        pod("shop/cart-1", "cart", "worker-1"),
      ),
    },
    want: "caller-pod-account-differs",
  },
  { name: "a token that names its node", caller: { nodeName: "worker-1" }, want: "allow" },
  {
    name: "a token that names another node than its pod's",
    caller: { nodeName: "worker-2" },
    want: "caller-node-differs",
  },
  { name: "a pod of another node", wanted: id("pay"), want: "identity-not-on-node" },
  { name: "a failed pod", wanted: id("failed"), want: "identity-not-on-node" },
  { name: "a pod without a node", wanted: id("waiting"), want: "identity-not-on-node" },
  { name: "an account nobody runs as", wanted: id("ghost"), want: "identity-not-on-node" },
];

for (const c of CASES)
  test(`node authorizer: ${c.name}`, () => {
    const verdict = authorizeNode(
      { ...OPTIONS, ...c.options },
      { ...CALLER, ...c.caller },
      c.wanted ?? id("cart"),
    );
    assert.equal(verdict.kind === "allow" ? "allow" : verdict.why, c.want);
  });

test("the pod index follows changes", () => {
  const pods = index(pod("shop/a", "cart", "n1"), pod("shop/b", "cart", "n1"));
  assert.ok(pods.runsOn("n1", "shop", "cart"));
  pods.update([{ type: "deleted", object: pod("shop/a", "cart", "n1") }]);
  assert.ok(pods.runsOn("n1", "shop", "cart"), "another pod of the account is left");
  pods.update([{ type: "modified", object: pod("shop/b", "cart", "n1", { phase: "Failed" }) }]);
  assert.ok(!pods.runsOn("n1", "shop", "cart"));
  assert.deepEqual(pods.onNode("n1"), []);
  assert.equal(pods.size, 0);
});
