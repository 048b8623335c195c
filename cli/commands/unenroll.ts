// `ambit unenroll`
import { RESOURCES } from "#lib/kube/objects.ts";
import type { ExitCode } from "../errors.ts";
import { EnrollCommand, enrollArgs, enrollFlags, type Direction } from "../enroll-command.ts";
import { MODE_LABEL } from "../kube/enrollment.ts";

const DIRECTION: Direction = {
  verb: "unenrolled",
  leaving: true,
  // A pod of an enrolled namespace must say that it does not want what its namespace wants.
  value: (target, namespace) =>
    target.resource !== RESOURCES.namespaces &&
    namespace?.metadata.labels?.[MODE_LABEL] === "ambient"
      ? "none"
      : null,
};

export class Unenroll extends EnrollCommand {
  static override summary = "Take a namespace, pods or what makes them out of the mesh.";
  static override description =
    "Removes the label istio.io/dataplane-mode; a pod, or a pod template, whose namespace is enrolled gets the value none.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> ns/shop --wait",
    "<%= config.bin %> <%= command.id %> pod/client -n shop",
    "<%= config.bin %> <%= command.id %> deploy/cart -n shop --wait -y",
  ];
  static override strict = false;
  static override args = enrollArgs;
  static override flags = enrollFlags;

  override async run(): Promise<ExitCode> {
    const { argv, flags } = await this.parse(Unenroll);
    return await this.change(argv.map(String), flags, DIRECTION);
  }
}
