// Runs `ambit` against a control plane, in this process.
import { ambit, type Ran, type RunOptions } from "../../../cli/testdata/run-command.ts";
import type { ControlPlane } from "../control-plane.ts";

export interface CliOptions extends RunOptions {
  /** The administrator's without. */
  readonly kubeconfig?: string;
}

export type Cli = (line: string, options?: CliOptions) => Promise<Ran>;

/** Words of `line` are separated by spaces; the kubeconfig is added. */
export function cliFor(api: ControlPlane): Cli {
  return async (line, { kubeconfig = api.kubeconfig, ...options } = {}) =>
    await ambit([...line.split(" "), "--kubeconfig", kubeconfig], { now: Date.now, ...options });
}

/** The document of `-o json`. */
export async function json<T>(cli: Cli, line: string): Promise<T> {
  const ran = await cli(`${line} -o json`);
  try {
    return JSON.parse(ran.stdout) as T;
  } catch (cause) {
    throw new Error(`${line} printed no JSON: ${ran.stderr}${ran.stdout}`, { cause });
  }
}
