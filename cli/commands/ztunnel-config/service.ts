// `ambit ztunnel-config service`
import * as Flags from "@oclif/core/flags";
import type { ExitCode } from "../../errors.ts";
import { SERVICE_COLUMNS, serviceRows } from "../../render/workloads.ts";
import { zcFlags, ZtunnelConfigCommand } from "../../ztunnel-config-command.ts";

export class ZtunnelConfigService extends ZtunnelConfigCommand {
  static override summary = "List the services the ztunnels know.";
  static override description = "ENDPOINTS is healthy over all.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --service-namespace shop",
  ];
  static override hiddenAliases = [
    "ztunnel-config:services",
    "ztunnel-config:svc",
    "ztunnel-config:s",
  ];
  static override flags = {
    ...zcFlags,
    "service-namespace": Flags.string({ summary: "Only this namespace; same as -n." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(ZtunnelConfigService);
    const { dumps, partial } = await this.dumps(flags);
    const rows = serviceRows(dumps, flags["service-namespace"] ?? flags.namespace);
    return await this.show(
      {
        rows,
        columns: SERVICE_COLUMNS,
        name: (r) => `service/${r.record.name}.${r.record.namespace}`,
        document: this.document(
          "ServiceList",
          rows.map((r) => r.record.raw),
          partial,
        ),
        empty: "no services match",
        gap: 1,
      },
      flags,
      partial,
    );
  }
}
