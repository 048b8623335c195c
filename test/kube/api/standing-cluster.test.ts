// What `make kube-up` says of the cluster it made, and of one that stood before.
import assert from "node:assert/strict";
import { test } from "node:test";
import { howToUse } from "../standing-cluster.ts";

const CLUSTER = { owner: "1 2", kubeconfig: "/k/kubeconfig", nodes: ["a", "b"], logs: "/k/logs" };

test("a cluster that stands already is not presented as a new one", () => {
  const made = howToUse(CLUSTER, "/bin/kubectl", null);
  assert.match(made, /^Nodes a, b are ready/);
  const stood = howToUse(CLUSTER, "/bin/kubectl", new Date("2026-01-02T03:04:05Z"));
  assert.match(stood, /^A cluster stands here already, since 2026-01-02T03:04:05.000Z: nodes a, b/);
  for (const text of [made, stood]) {
    assert.match(text, /export KUBECONFIG=\/k\/kubeconfig\n {2}\/bin\/kubectl get nodes/);
    assert.match(text, /make kube-down/);
  }
});
