// `ambit ztunnel-config policy`
import * as Flags from "@oclif/core/flags";
import type { ExitCode } from "../../errors.ts";
import { POLICY_COLUMNS, policyRows } from "../../render/policies.ts";
import { zcFlags, ZtunnelConfigCommand } from "../../ztunnel-config-command.ts";

export class ZtunnelConfigPolicy extends ZtunnelConfigCommand {
  static override summary = "List the policies the ztunnels enforce.";
  static override description =
    "These are AuthorizationPolicies and PeerAuthentications as far as ztunnels enforce them (layer 4).";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --policy-namespace shop -o json",
  ];
  static override hiddenAliases = [
    "ztunnel-config:policies",
    "ztunnel-config:pol",
    "ztunnel-config:p",
  ];
  static override flags = {
    ...zcFlags,
    "policy-namespace": Flags.string({ summary: "Only this namespace; same as -n." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(ZtunnelConfigPolicy);
    const { dumps, partial } = await this.dumps(flags);
    const rows = policyRows(dumps, flags["policy-namespace"] ?? flags.namespace);
    return await this.show(
      {
        rows,
        columns: POLICY_COLUMNS,
        name: (r) => `policy/${r.record.name}.${r.record.namespace}`,
        document: this.document(
          "PolicyList",
          rows.map((r) => r.record.raw),
          partial,
        ),
        empty: "no policies match",
        gap: 1,
      },
      flags,
      partial,
    );
  }
}
