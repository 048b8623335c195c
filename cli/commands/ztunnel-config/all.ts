// `ambit ztunnel-config all`
import * as Flags from "@oclif/core/flags";
import { EXIT, type ExitCode } from "../../errors.ts";
import { CONNECTION_COLUMNS, connectionRows } from "../../render/connections.ts";
import {
  CERTIFICATE_COLUMNS,
  certificateRows,
  POLICY_COLUMNS,
  policyRows,
} from "../../render/policies.ts";
import { renderTable, type Column } from "../../render/table.ts";
import {
  SERVICE_COLUMNS,
  serviceRows,
  WORKLOAD_COLUMNS,
  workloadRows,
  type NodeDump,
} from "../../render/workloads.ts";
import { zcFlags, ZtunnelConfigCommand } from "../../ztunnel-config-command.ts";

export class ZtunnelConfigAll extends ZtunnelConfigCommand {
  static override summary = "Show everything the ztunnels hold.";
  static override description =
    "Five tables in sequence. With -o json, the whole dump of every ztunnel: a file that -f of all other read commands accepts.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> --with-headers",
    "<%= config.bin %> <%= command.id %> -o json > mesh.json",
  ];
  static override flags = {
    ...zcFlags,
    "with-headers": Flags.boolean({ summary: "Name each table." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(ZtunnelConfigAll);
    const { dumps, partial } = await this.dumps(flags);
    this.warnPartial(partial);
    const table = { headers: !flags["no-headers"], wide: this.format(flags) === "wide" };
    const document = this.document(
      "ConfigDumpList",
      dumps.map((d) => ({ node: d.node, dump: d.value.raw })),
      partial,
    );
    const text = sections(dumps, flags.namespace, this.io.now())
      .map((s) => {
        const title = flags["with-headers"] ? `------ ${s.title} INFO ------\n\n` : "";
        return `\n${title}${s.render(table)}`;
      })
      .join("");
    const names = dumps.map((d) => `ztunnel/${d.node}`);
    await this.showOne({ text, document, names }, flags);
    return EXIT.ok;
  }
}

interface Section {
  readonly title: string;
  readonly render: (options: { readonly headers: boolean; readonly wide: boolean }) => string;
}

function sections(
  dumps: readonly NodeDump[],
  namespace: string | undefined,
  now: number,
): readonly Section[] {
  const of = <T>(
    title: string,
    rows: T[],
    columns: readonly Column<T>[],
    gap: number,
  ): Section => ({
    title,
    render: (options) => renderTable(rows, columns, { ...options, gap }),
  });
  return [
    of("WORKLOAD", workloadRows(dumps, { namespace }), WORKLOAD_COLUMNS, 1),
    of("SERVICE", serviceRows(dumps, namespace), SERVICE_COLUMNS, 1),
    of("POLICY", policyRows(dumps, namespace), POLICY_COLUMNS, 1),
    of("SECRET", certificateRows(dumps, now), CERTIFICATE_COLUMNS, 5),
    of("CONNECTIONS", connectionRows(dumps, { namespace, raw: false }), CONNECTION_COLUMNS, 1),
  ];
}
