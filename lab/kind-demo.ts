// `make kind-demo`: the mesh on a kind cluster, from nothing to nothing.
import { makeKindCluster, missingForKind } from "./cluster-demo/kind.ts";
import { playOnCluster } from "./cluster-demo/story.ts";
import { runDemo } from "./demo/play.ts";

runDemo(async (json) => {
  const missing = await missingForKind();
  if (missing.length === 0) return await playOnCluster("a kind cluster", makeKindCluster, json);
  process.stderr.write(
    `A kind cluster needs what is missing here: ${missing.join(", ")}\n` +
      "The same story on real kubelets in namespaces of this machine, without docker: make kube-demo\n",
  );
  return 1;
});
