// `ambit describe pod`
import { RESOURCES } from "#lib/kube/objects.ts";
import type { ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { openCluster, requireObject } from "../../kube/open-cluster.ts";
import { DescribeCommand, describeFlags } from "../../describe-command.ts";

export class DescribePod extends DescribeCommand {
  static override summary =
    "Say whether a pod is in the mesh, who it is there, and which rules hold for it.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> cart-6d4f-x2x9k -n shop",
    "<%= config.bin %> <%= command.id %> cart-6d4f-x2x9k -n shop -o json",
  ];
  static override args = {
    name: argument({ description: "<pod> or <pod>.<namespace>.", required: true }),
  };
  static override flags = describeFlags;

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(DescribePod);
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    const [name = "", own] = args.name.split(".", 2);
    const namespace = own ?? flags.namespace ?? mesh.namespace;
    const { describePod } = await import("../../describe/pod.ts");
    return await this.describe(async () => {
      const pod = await requireObject(cluster, RESOURCES.pods, namespace, name);
      const dump = await this.dumpOf(pod.spec?.nodeName, mesh, flags);
      return await describePod(cluster, pod, await this.view(mesh), { dump, now: this.io.now() });
    }, flags);
  }
}
