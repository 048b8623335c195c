// Node programs replaced while traffic flows: what cannot be tunnelled is refused, never sent in clear, and how many
// connections that costs is told.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PORT } from "#lib/net/ports.ts";
import type { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { rolledOut, workloadPod } from "../mesh.ts";
import {
  difference,
  inClear,
  type Load,
  loadedShop,
  loadSoFar,
  SHOP,
  tell,
  untilSteady,
  WEB,
} from "./loaded-shop.ts";

const needs = await kubeSandbox();
const SYSTEM = "istio-system";
let cluster: KubeCluster;

before(async () => {
  if (needs.skip === undefined) cluster = await loadedShop();
});
after(() => cluster?.[Symbol.asyncDispose]());

test("a rollout of ztunnel: new connections go on, old ones may end", needs, async () => {
  const seen = await watched("ztunnel rollout", async () => {
    const old = await podsOf("app=ztunnel");
    await restart("daemonset/ztunnel");
    // the old ones drain until their connections are gone, or their time is over
    await gone(old);
  });
  assert.equal(seen.fresh.failed, 0, JSON.stringify(seen.errors));
});

test("a rollout of the node agent is not noticed, and new pods start inside", needs, async () => {
  const question = [`--host=${WEB}`, "--port=80", "--text=first-words", "--count=1"];
  const seen = await watched("agent rollout", async () => {
    await cluster.kubectl(["rollout", "restart", "daemonset/istio-cni-node", "-n", SYSTEM]);
    await cluster.apply(
      workloadPod({
        name: "late",
        namespace: SHOP,
        node: "node-a",
        command: ["node", "/workloads/client.ts", ...question],
        probes: {},
      }),
    );
    await rolledOut(cluster, ["daemonset/istio-cni-node"]);
    await cluster.until("the new pod's answer", async () =>
      (await cluster.kubectl(["logs", "-n", SHOP, "late"])).stdout.includes("first-words 1"),
    );
  });
  await cluster.kubectl(["delete", "pod", "-n", SHOP, "late", "--wait=false"]);
  assert.equal(seen.kept.broken + seen.fresh.failed, 0, JSON.stringify(seen.errors));
});

test("a ztunnel that ends without a word: refused, not in clear", needs, async () => {
  const seen = await watched("ztunnel killed", async () => {
    const names = await podsOf("app=ztunnel");
    const force = ["--force", "--grace-period=0", "-n", SYSTEM];
    await cluster.kubectl(["delete", ...names, ...force]);
    await rolledOut(cluster, ["daemonset/ztunnel"]);
  });
  assert.ok(seen.kept.broken > 0);
});

/** Runs `change` under load. @returns what it cost; by then everything works again, and nothing was in clear */
async function watched(what: string, change: () => Promise<void>): Promise<Load> {
  await using capture = await cluster.capture();
  const before = await loadSoFar(cluster);
  await change();
  await untilSteady(cluster);
  const seen = difference(before, await loadSoFar(cluster));
  tell(what, seen);
  assert.deepEqual(await inClear(cluster, capture), []);
  assert.ok((await capture.flows()).some((flow) => flow.dstPort === PORT.hbone));
  return seen;
}

async function restart(part: string): Promise<void> {
  await cluster.kubectl(["rollout", "restart", part, "-n", SYSTEM]);
  await rolledOut(cluster, [part]);
}

async function gone(pods: readonly string[]): Promise<void> {
  const wait = ["wait", "--for=delete", "-n", SYSTEM, "--timeout=60s", ...pods];
  await cluster.kubectl(wait, undefined, 70_000);
}

/** As `pod/NAME`. */
async function podsOf(selector: string): Promise<string[]> {
  const args = ["get", "pods", "-n", SYSTEM, "-l", selector, "-o", "name"];
  return (await cluster.kubectl(args)).stdout.trim().split("\n");
}
