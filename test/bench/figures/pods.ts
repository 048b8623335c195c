// How long the mesh makes people wait: a new pod's first byte, the CNI chain's ADD, and a policy's effect on
// connections that are open already.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { RESOURCES } from "#lib/kube/objects.ts";
import { pluginConfig } from "../../../lab/mesh-parts.ts";
import { Netns } from "../../../lab/netns.ts";
import { clientCommand, hold } from "../load-run.ts";
import type { Progress } from "../progress.ts";
import type { Results } from "../results.ts";
import { MESH, PLAIN, type Stage } from "../stage.ts";

const FIRST_BYTE_MS = 15_000;
const HELD = 100;
const CLOSE_MS = 15_000;
const WRITER = { fieldManager: "bench" } as const;

/** From the kubelet's first act to the byte that came back, the client program's own start included in both. */
export async function measurePodStart(
  stage: Stage,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  const { lab } = stage;
  for (let round = 0; round < rounds; round++)
    for (const name of ["direct", "hbone"]) {
      progress.step(`a pod's first byte, round ${round + 1} of ${rounds}, ${name}`);
      const { target } = stage.path(name);
      const namespace = name === "hbone" ? MESH : PLAIN;
      const command = clientCommand("first", target, { seconds: FIRST_BYTE_MS / 1_000 });
      const started = Date.now();
      const pod = await lab.runPod("a", { name: `first-${round}`, namespace, command });
      try {
        const [, at] =
          (await pod.main?.waitForOutput(/"firstByteAt":([\d.]+)/, FIRST_BYTE_MS)) ?? [];
        results.add("pod creation to first byte", name, "ms", Number(at) - started);
      } finally {
        await lab.node("a").deletePod(namespace, pod.name);
      }
    }
}

/** All plugins of the chain, as the runtime waits for them. */
export async function measureCniAdd(
  stage: Stage,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  const node = stage.lab.node("a");
  const ours = pluginConfig(join(node.dir, "run"));
  for (let round = 0; round < rounds; round++)
    for (const name of ["without our plugin", "with our plugin"]) {
      progress.step(`CNI ADD ${name}, round ${round + 1} of ${rounds}`);
      await node.chainPlugin(ours.type, name === "with our plugin" ? ours : null);
      results.add("CNI ADD", name, "ms", await timeAdd(stage, `added-${round}`));
    }
}

async function timeAdd(stage: Stage, podName: string): Promise<number> {
  const { kubelet, chain, hostProc } = stage.lab.node("a");
  const pod = await kubelet.createPod({ name: podName, namespace: MESH });
  const containerId = randomBytes(32).toString("hex");
  const podUid = pod.metadata.uid ?? "";
  await using undo = new AsyncDisposableStack();
  undo.defer(() => kubelet.removePod(pod));
  const netns = undo.use(await Netns.create(`cni-${containerId.slice(0, 12)}`));
  undo.defer(await hostProc.addPod(podUid, containerId, netns.path));
  const attachment = {
    containerId,
    netnsPath: netns.path,
    podName,
    podNamespace: MESH,
    podUid,
  };
  const started = performance.now();
  await chain.add(attachment);
  const ms = performance.now() - started;
  await chain.delete(attachment);
  return ms;
}

/** From before the policy's file is written until the last of the open connections it denies is closed. */
export async function measurePolicy(
  stage: Stage,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  const { cluster } = stage.lab;
  const { from, target } = stage.path("hbone");
  for (let round = 0; round < rounds; round++) {
    progress.step(`policy, round ${round + 1} of ${rounds}`);
    await using held = await hold(from, target, HELD);
    const started = Date.now();
    const name = "deny-client";
    await cluster.apply(
      RESOURCES.authorizationPolicies,
      {
        apiVersion: "security.istio.io/v1",
        kind: "AuthorizationPolicy",
        metadata: { name, namespace: MESH },
        spec: {
          action: "DENY",
          rules: [{ from: [{ source: { principals: [`cluster.local/ns/${MESH}/sa/client`] } }] }],
        },
      },
      WRITER,
    );
    try {
      const closed = await held.closed(CLOSE_MS);
      results.add(
        `policy change to the last of ${HELD} connections closed`,
        "hbone",
        "ms",
        closed - started,
      );
    } finally {
      await cluster.delete(RESOURCES.authorizationPolicies, MESH, name);
    }
  }
}
