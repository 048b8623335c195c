// The mesh under load while istiod, Kubernetes' API server or the leases are away: traffic goes on, and what changed
// meanwhile is caught up with.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { ask, rolledOut, workloadPod } from "../mesh.ts";
import {
  CLIENT,
  difference,
  inClear,
  loadedShop,
  loadSoFar,
  MARKER,
  SHOP,
  tell,
  untilSteady,
  WEB,
} from "./loaded-shop.ts";

const needs = await kubeSandbox();
const SYSTEM = "istio-system";
const ISTIOD_AWAY_MS = 60_000;
const API_AWAY_MS = 10_000;
const LATE = "late.shop.svc.cluster.local";
let cluster: KubeCluster;

before(async () => {
  if (needs.skip === undefined) cluster = await loadedShop();
});
after(() => cluster?.[Symbol.asyncDispose]());

test("without istiod traffic goes on; afterwards all is caught up with", needs, async () => {
  await using capture = await cluster.capture();
  const before = await loadSoFar(cluster);
  await scaleIstiod(0);
  const awayMs = Date.now();
  await cluster.apply(workloadPod({ name: "late", namespace: SHOP, node: "node-b" }));
  await cluster.apply(deny("late"));
  await sleep(ISTIOD_AWAY_MS - (Date.now() - awayMs));
  // a new connection of a pod that made none before
  assert.ok((await ask(cluster, CLIENT, WEB, 80, MARKER)).isAnswer);
  await untilSteady(cluster);
  const seen = difference(before, await loadSoFar(cluster));
  tell("istiod away for a minute", seen);
  assert.equal(seen.kept.broken + seen.fresh.failed, 0, JSON.stringify(seen.errors));

  await scaleIstiod(1);
  await rolledOut(cluster, ["deployment/istiod"]);
  await cluster.waitFor("condition=Ready", SHOP, "pod/late");
  await cluster.until("the policy to be enforced", async () => !(await answers(LATE)));
  await cluster.kubectl(["delete", "authorizationpolicy", "-n", SHOP, "late"]);
  await cluster.until("the new pod to answer", () => answers(LATE));
  assert.deepEqual(await inClear(cluster, capture), []);
  await cluster.kubectl(["delete", "pod", "-n", SHOP, "late"]);
});

test("deleted leases come back, and their holders go on writing", needs, async () => {
  const before = await loadSoFar(cluster);
  const leases = await leaseNames();
  assert.ok(leases.length > 0);
  await cluster.kubectl(["delete", "leases", "--all", "-n", SYSTEM]);
  await cluster.until("the leases to be held again", async () => {
    const now = await leaseNames();
    return leases.every((lease) => now.includes(lease));
  });
  // only a leader writes it
  const labels = { "istio.io/dataplane-mode": "ambient" };
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "annex", labels } });
  await cluster.until("the root certificate in a new namespace", async () => {
    const args = ["get", "configmap", "-n", "annex", "istio-ca-root-cert"];
    return (await cluster.api.kubectl(args)).code === 0;
  });
  await untilSteady(cluster);
  const seen = difference(before, await loadSoFar(cluster));
  tell("leases deleted", seen);
  assert.equal(seen.kept.broken + seen.fresh.failed, 0, JSON.stringify(seen.errors));
});

test("without the API server traffic goes on; restarted, it is followed again", needs, async () => {
  await using capture = await cluster.capture();
  const before = await loadSoFar(cluster);
  await cluster.api.stopApiServer();
  await sleep(API_AWAY_MS);
  await cluster.api.startApiServer();
  await untilSteady(cluster);
  const seen = difference(before, await loadSoFar(cluster));
  tell("API server away for 10 s", seen);
  assert.equal(seen.kept.broken + seen.fresh.failed, 0, JSON.stringify(seen.errors));

  await cluster.apply(workloadPod({ name: "late", namespace: SHOP, node: "node-b" }));
  await cluster.waitFor("condition=Ready", SHOP, "pod/late");
  await cluster.until("the new pod to answer", () => answers(LATE));
  await cluster.apply(deny("web"));
  await cluster.until("the new policy to be enforced", async () => !(await answers(WEB)));
  await cluster.kubectl(["delete", "authorizationpolicy", "-n", SHOP, "web"]);
  await cluster.until("its end to be noticed", () => answers(WEB));
  await untilSteady(cluster);
  assert.deepEqual(await inClear(cluster, capture), []);
});

const answers = async (host: string): Promise<boolean> =>
  (await ask(cluster, CLIENT, host, 80, MARKER)).isAnswer;

/** Refuses everybody of the shop. */
function deny(name: string): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name, namespace: SHOP },
    spec: {
      selector: { matchLabels: { app: name } },
      action: "DENY",
      rules: [{ from: [{ source: { namespaces: [SHOP] } }] }],
    },
  };
}

async function scaleIstiod(replicas: number): Promise<void> {
  const scale = ["scale", "deployment/istiod", `--replicas=${replicas}`, "-n", SYSTEM];
  await cluster.kubectl(scale);
  if (replicas > 0) return;
  const gone = ["wait", "--for=delete", "pod", "-l", "app=istiod", "-n", SYSTEM, "--timeout=60s"];
  await cluster.kubectl(gone, undefined, 70_000);
}

async function leaseNames(): Promise<string[]> {
  const { stdout } = await cluster.kubectl(["get", "leases", "-n", SYSTEM, "-o", "name"]);
  return stdout.trim().split("\n").filter(Boolean);
}
