// What is said of pods that could not be made and of nodes that are gone.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PodController } from "#lib/kube/objects.ts";
import type { Kube } from "../kube/connect.ts";
import { nodeTrouble, refusedPods } from "./obstacles.ts";

const controller = (kind: string, conditions: readonly object[] = []): PodController =>
  ({
    apiVersion: "apps/v1",
    kind,
    metadata: { name: "ztunnel", namespace: "istio-system" },
    status: { conditions },
  }) as PodController;

function kubeWith(answers: { readonly events?: readonly object[]; readonly node?: object }): Kube {
  const asked: unknown[] = [];
  const cluster = {
    list: async (_: unknown, options: unknown) => (asked.push(options), answers.events ?? []),
    get: async () => answers.node ?? null,
  };
  return { cluster, asked } as unknown as Kube;
}

test("a DaemonSet's last refusal, from its events", async () => {
  const events = [
    { lastTimestamp: "2026-01-01T00:00:02Z", message: "violates PodSecurity baseline" },
    { lastTimestamp: "2026-01-01T00:00:01Z", message: "exceeded quota" },
  ];
  assert.deepEqual(await refusedPods(kubeWith({ events }), controller("DaemonSet")), [
    "no pod could be made for daemonset istio-system/ztunnel: violates PodSecurity baseline",
    "kubectl -n istio-system describe daemonset ztunnel",
  ]);
  assert.deepEqual(await refusedPods(kubeWith({}), controller("DaemonSet")), []);
});

test("a Deployment's, from its condition", async () => {
  const failure = { type: "ReplicaFailure", status: "True", message: "exceeded quota: q" };
  const [line] = await refusedPods(kubeWith({}), controller("Deployment", [failure]));
  assert.match(line ?? "", /deployment istio-system\/ztunnel: exceeded quota: q$/);
});

test("a node that is not ready is named, with its reason", async () => {
  const node = (status: string): object => ({
    status: {
      conditions: [{ type: "Ready", status, reason: "NodeStatusUnknown", message: "gone" }],
    },
  });
  assert.equal(await nodeTrouble(kubeWith({ node: node("True") }), "a"), "");
  assert.equal(
    await nodeTrouble(kubeWith({ node: node("Unknown") }), "a"),
    "node a is not ready: NodeStatusUnknown: gone (kubectl describe node a)",
  );
  assert.equal(await nodeTrouble(kubeWith({}), undefined), "");
});
