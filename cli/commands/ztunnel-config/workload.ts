// `ambit ztunnel-config workload`
import * as Flags from "@oclif/core/flags";
import { tryParseIp } from "#lib/net/ip.ts";
import { CliError, type ExitCode } from "../../errors.ts";
import { WORKLOAD_COLUMNS, workloadRows } from "../../render/workloads.ts";
import {
  parsePodName,
  podArgument,
  requirePod,
  zcFlags,
  ZtunnelConfigCommand,
} from "../../ztunnel-config-command.ts";

export class ZtunnelConfigWorkload extends ZtunnelConfigCommand {
  static override summary = "List the workloads the ztunnels know.";
  static override description =
    "PROTOCOL is HBONE for workloads the mesh has captured and TCP for all others.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --workload-namespace shop -o wide",
    "<%= config.bin %> <%= command.id %> -f ztunnel-config.json -o json",
  ];
  static override hiddenAliases = ["ztunnel-config:workloads", "ztunnel-config:w"];
  static override args = podArgument;
  static override flags = {
    ...zcFlags,
    "workload-namespace": Flags.string({ summary: "Only this namespace; same as -n." }),
    "workload-node": Flags.string({ summary: "Only workloads that run on this node." }),
    address: Flags.string({ summary: "Only the workload with this IP address." }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(ZtunnelConfigWorkload);
    if (flags.address !== undefined && tryParseIp(flags.address) === null)
      throw new CliError("USAGE", `--address: Not an IP address: ${JSON.stringify(flags.address)}`);
    const { dumps, partial } = await this.dumps(flags);
    const namespace = flags["workload-namespace"] ?? flags.namespace;
    const pod = args.pod === undefined ? undefined : parsePodName(args.pod, namespace);
    if (pod !== undefined) requirePod(pod, dumps);
    const rows = workloadRows(dumps, {
      namespace: pod?.namespace ?? namespace,
      node: flags["workload-node"],
      address: flags.address,
      name: pod?.name,
    });
    return await this.show(
      {
        rows,
        columns: WORKLOAD_COLUMNS,
        name: (r) => `workload/${r.record.name}.${r.record.namespace}`,
        document: this.document(
          "WorkloadList",
          rows.map((r) => r.record.raw),
          partial,
        ),
        empty: "no workloads match",
        gap: 1,
      },
      flags,
      partial,
    );
  }
}
