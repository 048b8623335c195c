// `make kube-demo`: the story of the kind demo on real kubelets in namespaces of this machine.
import { parseArgs } from "node:util";
import type { DemoCluster } from "../../lab/cluster-demo/cluster.ts";
import { CLUSTER_STORY, type Scene } from "../../lab/cluster-demo/story.ts";
import { exitWhenWritten, play } from "../../lab/demo/play.ts";
import { StepError, type Notes } from "../../lab/demo/step.ts";
import { KubeCluster } from "./kube-cluster.ts";
import { enterKubeSandbox } from "./kube-sandbox.ts";

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

async function makeCluster(notes: Notes): Promise<DemoCluster> {
  notes.did("API server, etcd, and two nodes with kubelet and containerd, joined by a link");
  const cluster = await KubeCluster.start({ crds: ["gateway-api"], images: ["ambit"] });
  notes.saw(`ready after ${(cluster.startupMs.nodesReady / 1000).toFixed(1)} s`);
  return {
    kubeconfig: cluster.kubeconfig,
    image: "ambit:dev",
    kubectl: async (args, input) => {
      const { code, stdout, stderr } = await cluster.api.kubectl(args, {
        timeoutMs: KUBECTL_MS,
        ...(input === undefined ? {} : { stdin: input }),
      });
      if (code === 0) return stdout;
      throw new StepError(`kubectl ${args.join(" ")}: ${`${stdout}${stderr}`.trim()}`);
    },
    capture: () => cluster.capture(),
    onNodes: async (command) => {
      const found = new Map<string, string>();
      for (const node of cluster.nodes)
        found.set(node.name, (await node.exec(["sh", "-c", command])).stdout);
      return found;
    },
    [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
  };
}

const KUBECTL_MS = 180_000;

async function main(): Promise<number> {
  const why = await enterKubeSandbox();
  if (why !== null) throw new StepError(why);
  await using owned = new AsyncDisposableStack();
  const scene: Scene = { owned, make: makeCluster };
  return await play({
    title: "Ambit: an ambient service mesh on real kubelets",
    steps: CLUSTER_STORY,
    scene,
    json: values.json,
  });
}

main().then(exitWhenWritten, (error: Error) => {
  process.stderr.write(`${error.message}\n`);
  exitWhenWritten(1);
});
