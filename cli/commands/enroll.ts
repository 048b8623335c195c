// `ambit enroll`
import * as Flags from "@oclif/core/flags";
import { CliError, type ExitCode } from "../errors.ts";
import { EnrollCommand, enrollArgs, enrollFlags, type Direction } from "../enroll-command.ts";

const DIRECTION: Direction = { verb: "enrolled", leaving: false, value: () => "ambient" };

export class Enroll extends EnrollCommand {
  static override summary = "Take a namespace, pods or what makes them into the mesh.";
  static override description =
    "Sets the label istio.io/dataplane-mode=ambient: on a namespace or a pod nothing is restarted, on a Deployment, StatefulSet or DaemonSet it is the pods' template. New connections are encrypted; those that are open at that moment break, as with Istio, and have to be made again.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> ns/shop --wait",
    "<%= config.bin %> <%= command.id %> pod/client -n shop",
    "<%= config.bin %> <%= command.id %> deploy/cart -n shop --wait -y",
    "<%= config.bin %> <%= command.id %> ns/shop --exclude legacy-0 --dry-run",
  ];
  static override strict = false;
  static override args = enrollArgs;
  static override flags = {
    ...enrollFlags,
    waypoint: Flags.string({
      summary: "Let traffic to it go through this waypoint of its namespace.",
      helpValue: "<name>",
    }),
    exclude: Flags.string({
      summary: "Leave this pod of the namespace out (label none).",
      multiple: true,
      multipleNonGreedy: true,
      helpValue: "<pod>",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { argv, flags } = await this.parse(Enroll);
    const words = argv.map(String);
    const exclude = (flags.exclude ?? []).map((pod) => pod.replace(/^(pod|po)\//, ""));
    if (exclude.length > 0 && (words.length !== 1 || !/^(ns|namespaces?)\//.test(words[0] ?? "")))
      throw new CliError("USAGE", "--exclude goes with exactly one namespace", [
        "ambit enroll ns/shop --exclude legacy-0",
      ]);
    return await this.change(words, flags, DIRECTION, exclude);
  }
}
