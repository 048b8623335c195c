// `ambit demo`: the mesh on this machine, from two empty nodes to encrypted traffic under policy and back,
// each step checked against what really happens on the wire.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Screen } from "./demo/screen.ts";
import { Notes } from "./demo/step.ts";
import { STORY, type Scene } from "./demo/story.ts";
import { requireSandbox } from "./sandbox.ts";

const EXIT_INTERRUPTED = 130;
const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

/** One step in the answer to `--json`. */
interface StepReport {
  readonly title: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly lines: Notes["lines"];
  readonly error?: string;
}

async function main(): Promise<number> {
  const { stateDir } = await requireSandbox();
  const screen = new Screen(values.json ? process.stderr : process.stdout, STORY.length);
  const report: StepReport[] = [];
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => reject(new Interrupted()));
  });
  interrupted.catch(() => {});
  await using owned = new AsyncDisposableStack();
  const scene: Scene = { owned, dir: join(stateDir, "demo") };
  screen.title("Ambit: an ambient service mesh on one machine");
  let code = 0;
  for (const step of STORY) {
    const notes = new Notes();
    const began = performance.now();
    const seconds = (): number => Math.round(performance.now() - began) / 1000;
    screen.begin(step.title);
    try {
      await Promise.race([step.run(scene, notes), interrupted]);
      screen.done(step.title, seconds(), notes.lines);
      report.push({ title: step.title, ok: true, seconds: seconds(), lines: notes.lines });
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      for (const part of scene.lab?.mesh.endedParts() ?? []) notes.saw(part);
      screen.failed(step.title, error, notes.lines);
      report.push({
        title: step.title,
        ok: false,
        seconds: seconds(),
        lines: notes.lines,
        error: error.message,
      });
      code = error instanceof Interrupted ? EXIT_INTERRUPTED : 1;
      break;
    }
  }
  if (code === 0) screen.end("All steps as expected.");
  if (values.json)
    process.stdout.write(
      `${JSON.stringify({ apiVersion: "ambit/v1", kind: "DemoReport", ok: code === 0, steps: report }, null, 2)}\n`,
    );
  return code;
}

class Interrupted extends Error {
  constructor() {
    super("Interrupted; cleaning up");
  }
}

/** A step that was interrupted may still wait for something; nobody waits for it. */
function exit(code: number): void {
  process.stdout.write("", () => process.exit(code));
}

main().then(exit, (error: Error) => {
  process.stderr.write(`${error.message}\n`);
  exit(1);
});
