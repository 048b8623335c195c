// `ambit describe node`
import { RESOURCES } from "#lib/kube/objects.ts";
import type { ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { openCluster, requireObject } from "../../kube/open-cluster.ts";
import { DescribeCommand, describeFlags } from "../../describe-command.ts";

export class DescribeNode extends DescribeCommand {
  static override summary = "Say how the mesh stands on a node, and which pods it serves there.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> worker-1",
    "<%= config.bin %> <%= command.id %> worker-1 -o json",
  ];
  static override args = { name: argument({ description: "Node.", required: true }) };
  static override flags = describeFlags;

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(DescribeNode);
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    const { describeNode } = await import("../../describe/node.ts");
    return await this.describe(async () => {
      const node = await requireObject(cluster, RESOURCES.nodes, null, args.name);
      const dump = await this.dumpOf(args.name, mesh, flags);
      const { meshNamespace } = mesh;
      return await describeNode(cluster, node, await this.view(mesh), { dump, meshNamespace });
    }, flags);
  }
}
