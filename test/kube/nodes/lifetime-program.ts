// A program with a cluster in which a pod runs, for lifetime.test.ts to end in various ways.
import { sandbox } from "../../../lab/sandbox.ts";
import { BUSYBOX_IMAGE } from "../images.ts";
import { KubeCluster } from "../kube-cluster.ts";
import { enterKubeSandbox } from "../kube-sandbox.ts";

const why = await enterKubeSandbox();
if (why !== null) throw new Error(why);
const stop = new Promise((resolve) => process.once("SIGTERM", resolve));
await using cluster = await KubeCluster.start({ nodes: 1 });
await cluster.apply({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "sleeper" },
  spec: {
    containers: [
      { name: "main", image: BUSYBOX_IMAGE, imagePullPolicy: "Never", command: ["sleep", "1000"] },
    ],
  },
});
await cluster.waitFor("condition=Ready", "default", "pod/sleeper");
console.log(`up ${sandbox()?.stateDir}`);
const keepAlive = setInterval(() => {}, 1_000);
await stop;
clearInterval(keepAlive);
