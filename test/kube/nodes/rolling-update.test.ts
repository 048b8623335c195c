// The sample shop's server is replaced pod by pod while it is asked, a new connection per question, from both nodes: with
// its readiness probe and its pause before the end, no question stays without an answer.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { crossed, enrol, podsOf, startMesh } from "./installed-mesh.ts";

const needs = await kubeSandbox();
const SAMPLES = join(import.meta.dirname, "../../../manifests/samples/shop");
const SHOP = "shop";
const SERVERS = ["deployment/server-v1", "deployment/server-v2"];
/** One on each node. */
const CALLERS = { client: "node-a", visitor: "node-b" } as const;
const ROUNDS = 2;
const ROLLOUT_MS = 100_000;
let cluster: KubeCluster;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await startMesh({ images: ["ambit"] });
  await cluster.kubectl(["apply", "--server-side", "-k", SAMPLES]);
  // two of one version, so that a service keeps an old endpoint beside the new one
  await kubectl("scale", "deployment/server-v1", "--replicas=2");
  await rolledOut(...SERVERS);
  await enrol(cluster, SHOP);
  for (const [name, nodeName] of Object.entries(CALLERS)) {
    const container = { name, args: ["/shop/ask.mjs", "http://server", "0.1"] };
    const spec = { nodeName, containers: [container] };
    await kubectl(
      "patch",
      `deployment/${name}`,
      "-p",
      JSON.stringify({ spec: { template: { spec } } }),
    );
  }
  await rolledOut("deployment/client", "deployment/visitor");
});
after(() => cluster?.[Symbol.asyncDispose]());

test("a rolling update under load: no failed request", needs, async (t) => {
  await cluster.until("both callers to be answered", async () =>
    (await heard()).every((lines) => lines.some(isAnswer)),
  );
  const born = await podsOf(cluster, SHOP, "app=server");
  assert.equal(born.length, 3);
  const before = (await heard()).map((lines) => lines.length);
  await using capture = await cluster.capture();
  const startMs = Date.now();
  for (let round = 0; round < ROUNDS; round++) {
    await kubectl("rollout", "restart", ...SERVERS);
    await rolledOut(...SERVERS);
  }
  await cluster.until("the old pods to be gone and the new ones alone to answer", async () => {
    const left = await podsOf(cluster, SHOP, "app=server");
    return left.length === 3 && left.every((pod) => pod.ready && !pod.ending);
  });
  const settled = (await heard()).map((lines) => lines.length);
  await cluster.until("more answers by the new ones", async () =>
    (await heard()).every((lines, i) => lines.length >= (settled[i] ?? 0) + 20),
  );
  const tookMs = Date.now() - startMs;

  const now = await podsOf(cluster, SHOP, "app=server");
  const lines = (await heard()).map((all, i) => all.slice(before[i]));
  const failed = lines.flat().filter((line) => !isAnswer(line));
  t.diagnostic(
    `${ROUNDS} updates of 3 pods in ${(tookMs / 1000).toFixed(1)} s: ` +
      `${lines.map((l) => l.length).join(" and ")} requests, ${failed.length} failed`,
  );
  assert.deepEqual(failed, []);
  for (const pod of born)
    assert.ok(
      now.every(({ uid }) => uid !== pod.uid),
      `${pod.name} is old`,
    );
  for (const pod of now) {
    assert.ok(pod.captured, `${pod.name} is in the mesh`);
    assert.ok(
      lines.flat().some((line) => line.endsWith(pod.name)),
      `${pod.name} never answered`,
    );
  }
  const known = await podsOf(cluster, SHOP);
  const { clear, tunnels } = await crossed(capture, [...born, ...known]);
  assert.deepEqual(
    clear.map((f) => `${f.src} → ${f.dst}:${f.dstPort}`),
    [],
  );
  assert.ok(tunnels.length > 0);
  assert.equal(await capture.contains("server v"), false);
});

const isAnswer = (line: string): boolean => /^server v[12] on \S+$/.test(line);

/** Everything each caller has heard since it started. */
async function heard(): Promise<readonly string[][]> {
  return await Promise.all(
    Object.keys(CALLERS).map(async (name) => {
      const { stdout } = await kubectl("logs", `deployment/${name}`, "--tail=-1");
      return stdout.split("\n").filter((line) => line !== "");
    }),
  );
}

function kubectl(...args: readonly string[]): ReturnType<KubeCluster["kubectl"]> {
  return cluster.kubectl([...args, "-n", SHOP]);
}

async function rolledOut(...deployments: readonly string[]): Promise<void> {
  for (const name of deployments) {
    const args = ["rollout", "status", name, "-n", SHOP, `--timeout=${ROLLOUT_MS / 1000}s`];
    await cluster.kubectl(args, undefined, ROLLOUT_MS + 5_000);
  }
}
