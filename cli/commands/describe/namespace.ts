// `ambit describe namespace`
import { RESOURCES } from "#lib/kube/objects.ts";
import type { ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { openCluster, requireObject } from "../../kube/open-cluster.ts";
import { DescribeCommand, describeFlags } from "../../describe-command.ts";

export class DescribeNamespace extends DescribeCommand {
  static override summary = "Say what holds for everything in a namespace.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> shop",
    "<%= config.bin %> <%= command.id %> shop -o json",
  ];
  static override args = { name: argument({ description: "Namespace.", required: true }) };
  static override flags = describeFlags;

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(DescribeNamespace);
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    const { describeNamespace } = await import("../../describe/namespace.ts");
    return await this.describe(async () => {
      const namespace = await requireObject(cluster, RESOURCES.namespaces, null, args.name);
      return await describeNamespace(cluster, namespace, await this.view(mesh));
    }, flags);
  }
}
