// `ambit demo`: the mesh on this machine, from two empty nodes to encrypted traffic under policy and back,
// each step checked against what really happens on the wire.
import { join } from "node:path";
import { play, runDemo } from "./demo/play.ts";
import { STORY, type Scene } from "./demo/story.ts";
import { requireSandbox } from "./sandbox.ts";

runDemo(async (json) => {
  const { stateDir } = await requireSandbox();
  await using owned = new AsyncDisposableStack();
  const scene: Scene = { owned, dir: join(stateDir, "demo") };
  return await play({
    title: "Ambit: an ambient service mesh on one machine",
    steps: STORY,
    scene,
    json,
    onFailure: (notes) => {
      for (const part of scene.lab?.mesh.endedParts() ?? []) notes.saw(part);
    },
  });
});
