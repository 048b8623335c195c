// `make kube-demo`: the story of the kind demo on real kubelets in namespaces of this machine.
import type { DemoCluster } from "../../lab/cluster-demo/cluster.ts";
import { playOnCluster } from "../../lab/cluster-demo/story.ts";
import { runDemo } from "../../lab/demo/play.ts";
import { StepError, type Notes } from "../../lab/demo/step.ts";
import { KubeCluster } from "./kube-cluster.ts";
import { enterKubeSandbox } from "./kube-sandbox.ts";

const KUBECTL_MS = 180_000;

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

runDemo(async (json) => {
  const why = await enterKubeSandbox();
  if (why !== null) throw new StepError(why);
  return await playOnCluster("real kubelets", makeCluster, json);
});
