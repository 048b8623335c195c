// `ambit ztunnel-config connections`
import * as Flags from "@oclif/core/flags";
import type { ExitCode } from "../../errors.ts";
import { CONNECTION_COLUMNS, connectionItem, connectionRows } from "../../render/connections.ts";
import {
  parsePodName,
  podArgument,
  requirePod,
  zcFlags,
  ZtunnelConfigCommand,
} from "../../ztunnel-config-command.ts";

export class ZtunnelConfigConnections extends ZtunnelConfigCommand {
  static override summary = "List the connections of captured pods.";
  static override description =
    "The filters hold for every output format. For bytes, ages, identities and verdicts see `ambit tunnels`.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> cart-6d-abcde.shop --direction outbound",
    "<%= config.bin %> <%= command.id %> --raw -o json",
  ];
  static override hiddenAliases = ["ztunnel-config:connection", "ztunnel-config:cons"];
  static override args = podArgument;
  static override flags = {
    ...zcFlags,
    direction: Flags.string({
      summary: "Only this direction.",
      options: ["inbound", "outbound"] as const,
    }),
    raw: Flags.boolean({ summary: "Addresses instead of names." }),
    "workload-namespace": Flags.string({ summary: "Only this namespace; same as -n." }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(ZtunnelConfigConnections);
    const { dumps, partial } = await this.dumps(flags);
    const namespace = flags["workload-namespace"] ?? flags.namespace;
    const pod = args.pod === undefined ? undefined : parsePodName(args.pod, namespace);
    if (pod !== undefined) requirePod(pod, dumps);
    const rows = connectionRows(dumps, {
      namespace: pod?.namespace ?? namespace,
      direction: flags.direction as "inbound" | "outbound" | undefined,
      pod: pod?.name,
      raw: flags.raw,
    });
    return await this.show(
      {
        rows,
        columns: CONNECTION_COLUMNS,
        name: (r) => `connection/${r.pod.name}.${r.pod.namespace}/${r.connection.src}`,
        document: this.document("ConnectionList", rows.map(connectionItem), partial),
        empty: "no connections match",
        gap: 1,
      },
      flags,
      partial,
    );
  }
}
