// Keep or clean: what the DaemonSet and the node say, and what happens when nobody says anything.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Cluster } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import type { Node, PodController, PodSpec } from "#lib/kube/objects.ts";
import { decideBy, decideExit } from "./exit-decision.ts";
import { admitsNode } from "./node-affinity.ts";

const NODE: Node = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n1", labels: { os: "linux", zone: "a", gen: "7" } },
};

function daemonSet(spec: PodSpec = {}, deleted = false): PodController {
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "istio-cni-node", ...(deleted ? { deletionTimestamp: "2026-01-01" } : {}) },
    spec: { template: { spec } },
  };
}

const term = (key: string, operator: string, ...values: string[]) => ({
  matchExpressions: [{ key, operator, values }],
});

for (const [name, spec, want] of [
  ["nothing", {}, true],
  ["selector", { nodeSelector: { os: "linux" } }, true],
  ["another selector", { nodeSelector: { os: "windows" } }, false],
  ["In", term("zone", "In", "a", "b"), true],
  ["In, another", term("zone", "In", "b"), false],
  ["NotIn", term("zone", "NotIn", "b"), true],
  ["NotIn, absent", term("none", "NotIn", "b"), true],
  ["NotIn, the same", term("zone", "NotIn", "a"), false],
  ["Exists", term("zone", "Exists"), true],
  ["DoesNotExist", term("zone", "DoesNotExist"), false],
  ["Gt", term("gen", "Gt", "6"), true],
  ["Lt", term("gen", "Lt", "7"), false],
  ["Gt of a word", term("zone", "Gt", "1"), false],
  ["a field", { matchFields: [{ key: "metadata.name", operator: "In", values: ["n1"] }] }, true],
  ["another's", { matchFields: [{ key: "metadata.name", operator: "In", values: ["n2"] }] }, false],
  ["an empty term", { matchExpressions: [] }, false],
] as const)
  test(`node demands: ${name} is ${want}`, () => {
    const isTerm = "matchExpressions" in spec || "matchFields" in spec;
    const demands: PodSpec = isTerm
      ? {
          affinity: {
            nodeAffinity: {
              requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [spec] },
            },
          },
        }
      : (spec as PodSpec);
    assert.equal(admitsNode(demands, NODE), want);
  });

test("upgrade and reboot keep, removal cleans", () => {
  assert.equal(decideBy(daemonSet(), NODE).kind, "keep");
  assert.equal(decideBy(daemonSet(), null).kind, "keep");
  assert.equal(decideBy(null, NODE).kind, "clean");
  assert.equal(decideBy(daemonSet({}, true), NODE).kind, "clean");
  assert.equal(decideBy(daemonSet({ nodeSelector: { os: "x" } }), NODE).kind, "clean");
});

for (const [code, want, calls] of [
  ["UNAUTHORIZED", "clean", 1],
  ["FORBIDDEN", "clean", 1],
  ["UNAVAILABLE", "keep", 3],
  ["TIMEOUT", "keep", 3],
] as const)
  test(`an API server that answers ${code}: ${want}`, async () => {
    let asked = 0;
    const cluster = {
      get: (resource: { readonly plural: string }) => {
        if (resource.plural === "daemonsets") asked++;
        return Promise.reject(new KubeError(code, code));
      },
    } as unknown as Cluster;
    const o = {
      cluster,
      namespace: "istio-system",
      daemonSet: "istio-cni-node",
      nodeName: "n1",
      clock: {
        now: () => 0,
        sleep: (ms: number) => (ms > 2_000 ? new Promise<void>(() => {}) : Promise.resolve()),
      },
    };
    assert.equal((await decideExit({ ...o, cleansAlways: false })).kind, want);
    assert.equal(asked, calls);
    assert.equal((await decideExit({ ...o, cleansAlways: true })).kind, "clean");
    assert.equal(asked, calls);
  });
