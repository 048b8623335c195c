// Checks of an installed mesh on objects alone: parts that run nowhere.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { testKube } from "../testdata/test-kube.ts";
import type { Check, Finding } from "./check.ts";
import { CheckContext } from "./context.ts";
import { POST_CHECKS } from "./post.ts";

const ISTIOD = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "istiod", namespace: "istio-system", generation: 1 },
  spec: { replicas: 1 },
  status: { observedGeneration: 1, replicas: 1, readyReplicas: 1, updatedReplicas: 1 },
};
/** The controller has seen it, and its node selector matches nothing. */
const nowhere = (name: string): KubeObject & { readonly status: unknown } => ({
  apiVersion: "apps/v1",
  kind: "DaemonSet",
  metadata: { name, namespace: "istio-system", generation: 2 },
  status: { observedGeneration: 2, desiredNumberScheduled: 0, numberReady: 0 },
});
const namespace = (labels: Record<string, string>): KubeObject => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name: "shop", labels },
});
const CART = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "cart", namespace: "shop" },
  status: { phase: "Running" },
};
const NODE = { apiVersion: "v1", kind: "Node", metadata: { name: "a" } };
const PARTS = [ISTIOD, nowhere("istio-cni-node"), nowhere("ztunnel"), NODE, CART];
const ENROLLED = namespace({ "istio.io/dataplane-mode": "ambient" });

async function run(
  id: Check["id"],
  objects: readonly KubeObject[],
): Promise<readonly Finding[] | string> {
  const { signal } = new AbortController();
  const context = new CheckContext(testKube(objects), { signal, timeoutMs: 1_000, now: 0 });
  const found = await POST_CHECKS.find((c) => c.id === id)?.run(context);
  assert.ok(found !== undefined);
  return "skipped" in found ? found.skipped : found;
}

test("a part that is wanted on no node is a finding as soon as a pod is enrolled", async () => {
  assert.deepEqual(await run("C20", [...PARTS, namespace({})]), []);
  assert.equal(
    await run("C21", [...PARTS, namespace({})]),
    "no CNI agent runs, and no pod is enrolled",
  );
  const found = await run("C20", [...PARTS, ENROLLED]);
  assert.ok(typeof found !== "string");
  assert.deepEqual(
    found.map(({ object }) => object),
    ["daemonset/istio-system/istio-cni-node", "daemonset/istio-system/ztunnel"],
  );
  assert.match(found[1]?.text ?? "", /ztunnel runs no pod on any node, and 1 pod.*: shop\/cart$/);
  const agents = await run("C21", [...PARTS, ENROLLED]);
  assert.ok(typeof agents !== "string");
  assert.deepEqual(
    agents.map(({ object }) => object),
    ["daemonset/istio-system/istio-cni-node"],
  );
});

test("a CNI agent that is not there at all: both checks name it, and a pod still captured counts", async () => {
  const captured = {
    ...CART,
    metadata: { ...CART.metadata, annotations: { "ambient.istio.io/redirection": "enabled" } },
  };
  const objects = [ISTIOD, nowhere("ztunnel"), NODE, captured, namespace({})];
  const found = await run("C20", objects);
  assert.ok(typeof found !== "string");
  assert.deepEqual(
    found.map(({ text }) => text.replace(/,.*/, "")),
    [
      "daemonset/istio-system/istio-cni-node does not exist",
      "daemonset/istio-system/ztunnel runs no pod on any node",
    ],
  );
  const agents = await run("C21", objects);
  assert.ok(typeof agents !== "string");
  assert.equal(agents[0]?.object, "daemonset/istio-system/istio-cni-node");
});
