// Nodes that crash and come back in the worst orders: afterwards each pod of an enrolled namespace is inside the mesh,
// or it is not running.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeCluster } from "../kube-cluster.ts";
import type { KubeNode } from "../kube-node.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { ask } from "../mesh.ts";
import { CLIENT, inClear, loadedShop, MARKER, SHOP, untilSteady, WEB } from "./loaded-shop.ts";

const needs = await kubeSandbox();
const SYSTEM = "istio-system";
const BACK_MS = 120_000;
const CONFLIST = "/etc/cni/net.d/*.conflist";
let cluster: KubeCluster;
let node: KubeNode;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await loadedShop();
  node = cluster.node("node-b");
});
after(() => cluster?.[Symbol.asyncDispose]());

test("programs killed together and started in the worst order", {
  ...needs,
  timeout: 300_000,
}, async () => {
  await using capture = await cluster.capture();
  await node.kill("kubelet");
  await node.kill("kube-proxy");
  await node.kill("containerd");
  // what ran in the containers goes, too; nobody is there to start it again
  const killed = await node.exec(["sh", "-c", KILL_MESH]);
  assert.equal(killed.stdout.trim().split("\n").length, 2, killed.stdout);
  const { isAnswer } = await ask(cluster, CLIENT, WEB, 80, MARKER);
  assert.equal(isAnswer, false);
  for (const program of ["kubelet", "kube-proxy", "containerd"] as const) {
    // a kubelet without its runtime ends, and is started again
    if (program === "kubelet") void node.start(program).catch(() => {});
    else await node.start(program);
    await sleep(1_000);
  }
  await node.start("kubelet");
  await allInside();
  await untilSteady(cluster);
  assert.deepEqual(await inClear(cluster, capture), []);
});

test("pods whose node comes up before its agent wait for it", {
  ...needs,
  timeout: 300_000,
}, async () => {
  await using capture = await cluster.capture();
  const restarts = await restartsOf("web");
  await node.reboot({ order: ["containerd", "kubelet"] });
  // without kube-proxy, agent and ztunnel reach nobody: the plugin is there and lets no pod through
  await cluster.until("the plugin's refusal", async () => (await refusals()) > 0, BACK_MS);
  assert.equal(await restartsOf("web"), restarts);
  assert.equal((await ask(cluster, CLIENT, WEB, 80, MARKER)).isAnswer, false);
  await node.start("kube-proxy");
  await allInside();
  await untilSteady(cluster);
  assert.ok((await restartsOf("web")) > restarts);
  assert.deepEqual(await inClear(cluster, capture), []);
});

test("a pod started while our plugin was missing is found and taken in", {
  ...needs,
  timeout: 300_000,
}, async () => {
  const restarts = await restartsOf("web");
  await node.reboot({
    order: ["containerd", "kubelet"],
    between: async (next) => {
      // as if another CNI had written its configuration anew at boot
      if (next === "containerd") await node.exec(["sh", "-c", FORGET_US]);
    },
  });
  await cluster.until(
    "the pod to run outside",
    async () => (await restartsOf("web")) > restarts,
    BACK_MS,
  );
  const { uid } = await pod("web");
  assert.equal(await redirection("web"), "enabled", "what is written there is no proof");
  assert.equal((await rulesByAddress()).get((await pod("web")).ip), false);
  // nobody reaches it in clear meanwhile
  await using capture = await cluster.capture();
  assert.equal((await ask(cluster, CLIENT, WEB, 80, MARKER)).isAnswer, false);
  await node.start("kube-proxy");
  await allInside();
  await untilSteady(cluster);
  assert.equal((await pod("web")).uid, uid);
  assert.deepEqual(await inClear(cluster, capture), []);
});

/** Both programs of the mesh on the node, in its own process namespace. */
const KILL_MESH = `
for dir in /proc/[0-9]*; do
  tr '\\0' ' ' <$dir/cmdline 2>/dev/null | grep -qE 'node .*/opt/ambit/(ztunnel|cni)/' || continue
  kill -9 \${dir#/proc/} && echo \${dir#/proc/}
done`;

const FORGET_US = `
for file in ${CONFLIST}; do
  node=${process.execPath}
  $node -e '
    const fs = require("node:fs"), file = process.argv[1];
    const list = JSON.parse(fs.readFileSync(file, "utf8"));
    list.plugins = list.plugins.filter((p) => p.type !== "istio-cni");
    fs.writeFileSync(file, JSON.stringify(list));
  ' $file
done`;

interface PodNow {
  readonly name: string;
  readonly uid: string;
  readonly ip: string;
  readonly isRunning: boolean;
}

/** All pods of the shop on the node have rules, and its ztunnel serves them; or they do not run. */
async function allInside(): Promise<void> {
  const deadline = Date.now() + BACK_MS;
  for (let why = await whyOutside(); why !== null; why = await whyOutside()) {
    assert.ok(Date.now() < deadline, `after ${BACK_MS} ms ${why}`);
    await sleep(500);
  }
  // enrolled by the kernel's word; what its neighbours know of it may take a moment longer
  await cluster.until(
    "an answer",
    async () => (await ask(cluster, CLIENT, WEB, 80, MARKER)).isAnswer,
  );
}

async function whyOutside(): Promise<string | null> {
  const [pods, rules, served] = await Promise.all([
    podsOnNode(),
    rulesByAddress(),
    servedByZtunnel(),
  ]);
  if (!pods.some((p) => p.name === "web" && p.isRunning)) return "web does not run";
  for (const { name, uid, ip, isRunning } of pods) {
    if (!isRunning) continue;
    if (rules.get(ip) !== true)
      return `${name} (${ip}) has no rules: ${JSON.stringify([...rules])}`;
    if (!served.has(uid)) return `${name} is not served by ztunnel`;
  }
  return null;
}

async function podsOnNode(): Promise<PodNow[]> {
  const args = ["get", "pods", "-n", SHOP, "-o", "json", "--field-selector", "spec.nodeName"];
  const { stdout } = await cluster.kubectl([...args.slice(0, -1), `${args.at(-1)}=node-b`]);
  const { items } = JSON.parse(stdout) as { readonly items: readonly RawPod[] };
  return items.map(({ metadata, status }) => ({
    name: metadata.name,
    uid: metadata.uid,
    ip: status.podIP ?? "",
    isRunning: status.containerStatuses?.[0]?.state.running !== undefined,
  }));
}

interface RawPod {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status: {
    readonly podIP?: string;
    readonly containerStatuses?: readonly {
      readonly state: { readonly running?: object };
    }[];
  };
}

async function pod(name: string): Promise<PodNow> {
  const found = (await podsOnNode()).find((p) => p.name === name);
  assert.ok(found !== undefined, `no pod ${name} on the node`);
  return found;
}

/** Which addresses on the node belong to a namespace that redirects to a proxy; read from the kernel. */
async function rulesByAddress(): Promise<Map<string, boolean>> {
  const { stdout } = await node.exec(["sh", "-c", LOOK_INSIDE]);
  const found = new Map<string, boolean>();
  for (const part of stdout.split(/^== /m).slice(1))
    for (const [, ip = ""] of part.matchAll(/inet6? (\S+)\/\d+/g))
      found.set(ip, /15001/.test(part) && /15006/.test(part));
  return found;
}

const LOOK_INSIDE = `
for ns in /run/netns/*; do
  echo "== $ns"
  nsenter --net=$ns ip -o address show scope global 2>/dev/null || continue
  nsenter --net=$ns sh -c 'nft list ruleset; iptables-save; iptables-legacy-save' 2>/dev/null
done
true`;

/** Pods' uids, as the node's ztunnel itself says. */
async function servedByZtunnel(): Promise<Set<string>> {
  const select = ["-l", "app=ztunnel", "--field-selector", "spec.nodeName=node-b", "-o", "name"];
  const { stdout: name } = await cluster.kubectl(["get", "pods", "-n", SYSTEM, ...select]);
  const fetchDump =
    'fetch("http://127.0.0.1:15000/config_dump").then(r => r.json()).then(d => console.log(JSON.stringify(d.workloadState)))';
  const argv = ["exec", "-n", SYSTEM, name.trim().split("\n")[0] ?? "", "--"];
  const result = await cluster.api.kubectl([...argv, "/opt/ambit/bin/node", "-e", fetchDump]);
  if (result.code !== 0) return new Set();
  const state = JSON.parse(result.stdout) as Readonly<Record<string, { readonly state: string }>>;
  return new Set(Object.keys(state).filter((uid) => state[uid]?.state === "Up"));
}

async function restartsOf(name: string): Promise<number> {
  const path = "jsonpath={.status.containerStatuses[0].restartCount}";
  return Number((await cluster.kubectl(["get", "pod", "-n", SHOP, name, "-o", path])).stdout);
}

/** Sandboxes of the pod that our plugin did not let through. */
async function refusals(): Promise<number> {
  const select = "--field-selector=reason=FailedCreatePodSandBox,involvedObject.name=web";
  const { stdout } = await cluster.kubectl(["get", "events", "-n", SHOP, select, "-o", "json"]);
  const { items } = JSON.parse(stdout) as { readonly items: readonly { message: string }[] };
  return items.filter(({ message }) => message.includes('plugin type="istio-cni"')).length;
}

async function redirection(name: string): Promise<string> {
  const path = "jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}";
  return (await cluster.kubectl(["get", "pod", "-n", SHOP, name, "-o", path])).stdout;
}
