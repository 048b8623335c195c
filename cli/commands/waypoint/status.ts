// `ambit waypoint status`
import * as Flags from "@oclif/core/flags";
import { AmbitCommand } from "../../command.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { argument, duration } from "../../flags.ts";
import { openCluster } from "../../kube/open-cluster.ts";
import { isProgrammed } from "../../kube/waypoints.ts";
import { listDocument } from "../../render/output.ts";
import type { Column } from "../../render/table.ts";
import { didYouMean } from "../../suggest.ts";
import {
  findWaypoints,
  waitProgrammed,
  waypointStatus,
  type WaypointStatus,
} from "../../waypoint/wait.ts";

export class WaypointStatusCommand extends AmbitCommand {
  static override summary = "Wait until waypoints take traffic, and say how they stand.";
  static override description =
    "One row for each when all are programmed or time is up; the exit status is 5 in the second case. --no-wait looks once.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -n shop",
    "<%= config.bin %> <%= command.id %> waypoint -n shop --no-wait -o json",
  ];
  static override args = {
    name: argument({ description: "Only this waypoint.", required: false }),
  };
  static override flags = {
    wait: Flags.boolean({
      char: "w",
      summary: "Wait until they are programmed.",
      default: true,
      allowNo: true,
    }),
    timeout: duration({
      aliases: ["waypoint-timeout"],
      summary: "Longest wait.",
      default: 90_000,
      defaultHelp: async () => "90s",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(WaypointStatusCommand);
    const mesh = await openCluster(flags, this.io);
    const namespace = flags["all-namespaces"] ? null : (flags.namespace ?? mesh.namespace);
    const names = args.name === undefined ? [] : [args.name];
    const look = () => findWaypoints(mesh.cluster, namespace, names);
    const where = namespace === null ? "" : ` in namespace ${namespace}`;
    if (args.name !== undefined && (await look()).length === 0) {
      const others = (await findWaypoints(mesh.cluster, namespace, [])).map((g) => g.metadata.name);
      throw new CliError("NOT_FOUND", `No waypoint ${args.name}${where}`, [
        ...didYouMean(args.name, others),
        "ambit waypoint list -A lists them",
      ]);
    }
    const gateways = await waitProgrammed(look, flags.wait ? flags.timeout : 0, this.io.signal);
    const rows = gateways.map(waypointStatus);
    const generatedAt = new Date(this.io.now()).toISOString();
    await this.show(
      {
        rows,
        columns: columns(flags["all-namespaces"]),
        name: (r) => `gateway.gateway.networking.k8s.io/${r.name}`,
        document: listDocument("WaypointStatusList", rows, { generatedAt, partial: [] }),
        empty: `No waypoints${where}`,
      },
      flags,
    );
    return flags.wait && !gateways.every(isProgrammed) ? EXIT.timeout : EXIT.ok;
  }
}

function columns(withNamespace: boolean): readonly Column<WaypointStatus>[] {
  return [
    ...(withNamespace ? [{ header: "NAMESPACE", value: (r: WaypointStatus) => r.namespace }] : []),
    { header: "NAME", value: (r) => r.name },
    { header: "STATUS", value: (r) => r.status },
    { header: "TYPE", value: (r) => r.type },
    { header: "REASON", value: (r) => r.reason },
    { header: "MESSAGE", value: (r) => r.message },
  ];
}
