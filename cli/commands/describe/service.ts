// `ambit describe service`
import { RESOURCES } from "#lib/kube/objects.ts";
import type { ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { openCluster, requireObject } from "../../kube/open-cluster.ts";
import { DescribeCommand, describeFlags } from "../../describe-command.ts";

export class DescribeService extends DescribeCommand {
  static override summary =
    "Say who serves a service, in the mesh or not, and which waypoint stands in front.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> cart -n shop",
    "<%= config.bin %> <%= command.id %> cart -n shop -o json",
  ];
  static override args = {
    name: argument({ description: "<service> or <service>.<namespace>.", required: true }),
  };
  static override flags = describeFlags;

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(DescribeService);
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    const [name = "", own] = args.name.split(".", 2);
    const namespace = own ?? flags.namespace ?? mesh.namespace;
    const { describeService } = await import("../../describe/service.ts");
    return await this.describe(async () => {
      const service = await requireObject(cluster, RESOURCES.services, namespace, name);
      return await describeService(cluster, service, await this.view(mesh));
    }, flags);
  }
}
