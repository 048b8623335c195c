// Runs the command line against a demo's mesh, as a user would in another terminal.
import { join } from "node:path";
import { ROOT } from "../mesh-parts.ts";
import { run } from "../process.ts";
import { type Notes, StepError } from "./step.ts";

export interface AmbitOptions {
  readonly input?: string;
  /** The status that this command should end with; 0 by default. */
  readonly code?: number;
  readonly timeoutMs?: number;
}

/**
 * @param env  names the mesh: `AMBIT_LAB`, or `KUBECONFIG`
 * @returns its standard output
 * @throws {StepError} with the command's own message
 */
export async function ambit(
  env: Readonly<Record<string, string>>,
  notes: Notes | null,
  argv: readonly string[],
  o: AmbitOptions = {},
): Promise<string> {
  notes?.did(`ambit ${argv.join(" ")}`);
  const { code, stdout, stderr } = await run(
    [process.execPath, join(ROOT, "cli/bin/run.ts"), ...argv],
    {
      env: { ...env, NO_COLOR: "1" },
      allowFailure: true,
      ...(o.input === undefined ? {} : { input: o.input }),
      ...(o.timeoutMs === undefined ? {} : { timeoutMs: o.timeoutMs }),
    },
  );
  if (code === (o.code ?? 0)) return stdout;
  throw new StepError(
    `ambit ${argv.join(" ")} ended with status ${code}: ${(stderr || stdout).trim()}`,
  );
}
