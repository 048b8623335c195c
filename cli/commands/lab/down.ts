// `ambit lab down`
import { rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { readLabState } from "../../../lab/state.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { LabCommand } from "../../lab-command.ts";
import { API_VERSION } from "../../render/output.ts";

export class LabDown extends LabCommand {
  static override summary = "End the lab and everything in it.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --lab /tmp/my-lab",
  ];

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(LabDown);
    const dir = this.labDir(flags);
    const { findLab, labDown } = await import("../../../lab/client.ts");
    const state = await findLab(dir);
    let change = "ended";
    if (state !== null) await labDown(state);
    else {
      if (readLabState(dir) === null)
        throw new CliError("UNREACHABLE", `No lab is running at ${dir}`, [
          "ambit lab up starts one",
        ]);
      // Its process is gone, and with it all namespaces: only the file is left.
      await rm(join(dir, "lab.json"), { force: true });
      change = "was gone already; its file is removed";
    }
    await this.showOne(
      {
        text: `lab at ${dir} ${change}\n`,
        document: { apiVersion: API_VERSION, kind: "LabResult", dir, change },
        names: [`lab/${basename(dir)}`],
      },
      flags,
    );
    return EXIT.ok;
  }
}
