// Plays a story: its steps in order, each shown with what was done and seen; the first that does not see what it
// should ends it. The answer to `--json` goes to stdout, and the show to stderr then.
import { parseArgs } from "node:util";
import { Screen } from "./screen.ts";
import { Notes } from "./step.ts";

const EXIT_INTERRUPTED = 130;

/** `Scene` carries what earlier steps made to later ones. */
export interface Step<Scene> {
  readonly title: string;
  readonly run: (scene: Scene, notes: Notes) => Promise<void>;
}

export interface Play<Scene> {
  readonly title: string;
  readonly steps: readonly Step<Scene>[];
  readonly scene: Scene;
  readonly json: boolean;
  /** What else there is to say about a failure. */
  readonly onFailure?: (notes: Notes) => void;
}

/** One step in the answer to `--json`. */
interface StepReport {
  readonly title: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly lines: Notes["lines"];
  readonly error?: string;
}

/** @returns the exit status */
export async function play<Scene>(o: Play<Scene>): Promise<number> {
  const screen = new Screen(o.json ? process.stderr : process.stdout, o.steps.length);
  const report: StepReport[] = [];
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => reject(new Interrupted()));
  });
  interrupted.catch(() => {});
  screen.title(o.title);
  let code = 0;
  for (const step of o.steps) {
    const notes = new Notes();
    const began = performance.now();
    const seconds = (): number => Math.round(performance.now() - began) / 1000;
    const { title } = step;
    screen.begin(title);
    try {
      await Promise.race([step.run(o.scene, notes), interrupted]);
      screen.done(title, seconds(), notes.lines);
      report.push({ title, ok: true, seconds: seconds(), lines: notes.lines });
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      if (!(error instanceof Interrupted)) o.onFailure?.(notes);
      screen.failed(title, error, notes.lines);
      const { lines } = notes;
      report.push({ title, ok: false, seconds: seconds(), lines, error: error.message });
      code = error instanceof Interrupted ? EXIT_INTERRUPTED : 1;
      break;
    }
  }
  if (code === 0) screen.end("All steps as expected.");
  if (o.json)
    process.stdout.write(
      `${JSON.stringify({ apiVersion: "ambit/v1", kind: "DemoReport", ok: code === 0, steps: report }, null, 2)}\n`,
    );
  return code;
}

/** A demo as a program: `--json` is its one option, what `body` resolves to its exit status. */
export function runDemo(body: (json: boolean) => Promise<number>): void {
  const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });
  body(values.json).then(exitWhenWritten, (error: Error) => {
    process.stderr.write(`${error.message}\n`);
    exitWhenWritten(1);
  });
}

/** A step that was interrupted may still wait for something; nobody waits for it. */
function exitWhenWritten(code: number): void {
  process.stdout.write("", () => process.exit(code));
}

class Interrupted extends Error {
  constructor() {
    super("Interrupted; cleaning up");
  }
}
