// `make kind-demo`: the mesh on a kind cluster, from nothing to nothing.
import { parseArgs } from "node:util";
import { makeKindCluster, missingForKind } from "./cluster-demo/kind.ts";
import { CLUSTER_STORY, type Scene } from "./cluster-demo/story.ts";
import { exitWhenWritten, play } from "./demo/play.ts";

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

async function main(): Promise<number> {
  const missing = await missingForKind();
  if (missing.length > 0) {
    process.stderr.write(
      `A kind cluster needs what is missing here: ${missing.join(", ")}\n` +
        "The same story on real kubelets in namespaces of this machine, without docker: make kube-demo\n",
    );
    return 1;
  }
  await using owned = new AsyncDisposableStack();
  const scene: Scene = { owned, make: makeKindCluster };
  return await play({
    title: "Ambit: an ambient service mesh on a kind cluster",
    steps: CLUSTER_STORY,
    scene,
    json: values.json,
  });
}

main().then(exitWhenWritten, (error: Error) => {
  process.stderr.write(`${error.message}\n`);
  exitWhenWritten(1);
});
