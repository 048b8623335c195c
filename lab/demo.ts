// `ambit demo`: the mesh on this machine, from two empty nodes to encrypted traffic under policy and back,
// each step checked against what really happens on the wire.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { exitWhenWritten, play } from "./demo/play.ts";
import { STORY, type Scene } from "./demo/story.ts";
import { requireSandbox } from "./sandbox.ts";

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

async function main(): Promise<number> {
  const { stateDir } = await requireSandbox();
  await using owned = new AsyncDisposableStack();
  const scene: Scene = { owned, dir: join(stateDir, "demo") };
  return await play({
    title: "Ambit: an ambient service mesh on one machine",
    steps: STORY,
    scene,
    json: values.json,
    onFailure: (notes) => {
      for (const part of scene.lab?.mesh.endedParts() ?? []) notes.saw(part);
    },
  });
}

main().then(exitWhenWritten, (error: Error) => {
  process.stderr.write(`${error.message}\n`);
  exitWhenWritten(1);
});
