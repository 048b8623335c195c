// Runs the command line against the demo's lab, as a user would in another terminal.
import { join } from "node:path";
import type { Lab } from "../lab.ts";
import { ROOT } from "../mesh-parts.ts";
import { run } from "../process.ts";
import { type Notes, StepError } from "./step.ts";

/** @throws {StepError} with the command's own message */
export async function ambit(
  lab: Lab,
  notes: Notes | null,
  argv: readonly string[],
  input?: string,
): Promise<string> {
  notes?.did(`ambit ${argv.join(" ")}`);
  const { code, stdout, stderr } = await run(
    [process.execPath, join(ROOT, "cli/bin/run.ts"), ...argv],
    {
      env: { AMBIT_LAB: lab.dir, NO_COLOR: "1" },
      allowFailure: true,
      ...(input === undefined ? {} : { input }),
    },
  );
  if (code === 0) return stdout;
  throw new StepError(
    `ambit ${argv.join(" ")} ended with status ${code}: ${(stderr || stdout).trim()}`,
  );
}
