// What the `lab` commands share: finding the lab that runs.
import { defaultStateDir, readLabState, type LabState } from "../lab/state.ts";
import { AmbitCommand, type Globals } from "./command.ts";
import { CliError } from "./errors.ts";

export abstract class LabCommand extends AmbitCommand {
  protected labDir(flags: Globals): string {
    return flags.lab ?? defaultStateDir(this.io.env);
  }

  /** @throws {CliError} UNREACHABLE when none runs, or one left its file behind */
  protected async runningLab(flags: Globals): Promise<LabState> {
    const dir = this.labDir(flags);
    const { findLab } = await import("../lab/client.ts");
    const state = await findLab(dir);
    if (state !== null) return state;
    const stale = readLabState(dir) !== null;
    throw new CliError(
      "UNREACHABLE",
      stale ? `The lab at ${dir} does not answer` : `No lab is running at ${dir}`,
      stale ? ["tidy up with: ambit lab down"] : ["start one with: ambit lab up"],
    );
  }
}
