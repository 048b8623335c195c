// `ambit tunnels list`, also plain `ambit tunnels`
import * as Flags from "@oclif/core/flags";
import { AmbitCommand } from "../../command.ts";
import type { ExitCode } from "../../errors.ts";
import { duration, nodeFlag, sourceFlags } from "../../flags.ts";
import { listDocument } from "../../render/output.ts";
import { tunnelColumns, tunnelRows } from "../../render/tunnels.ts";
import { gather } from "../../source/mesh-source.ts";
import { gatherOptions, openSource } from "../../source/open.ts";
import { parseTunnelList } from "../../source/tunnel-list.ts";
import { tunnelFilter, tunnelFilterFlags } from "../../tunnel-filter.ts";

export class TunnelsList extends AmbitCommand {
  static override summary =
    "List live connections: who talks to whom, how, and under which verdict.";
  static override description =
    "Asks every ztunnel and shows each connection between captured pods once, joined from the reports of its two ends. STREAMS counts the connections that share its HBONE tunnel.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -n shop",
    "<%= config.bin %> <%= command.id %> --from pod/client --to svc/server -o wide",
    "<%= config.bin %> <%= command.id %> --verdict denied -o json",
  ];
  static override flags = {
    ...sourceFlags,
    ...nodeFlag,
    ...tunnelFilterFlags,
    verdict: Flags.string({
      summary: "Only this verdict.",
      options: ["allowed", "denied", "pending"] as const,
    }),
    stale: duration({ summary: "Only connections older than this." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(TunnelsList);
    const keep = tunnelFilter(flags);
    const source = await openSource(flags, this.io);
    const options = gatherOptions(flags, this.io);
    const asked = await gather(source, "/ambit/tunnels", parseTunnelList, options);
    const partial = [...asked.partial, ...asked.answers.flatMap((a) => a.value.partial)];
    const now = this.io.now();
    const rows = tunnelRows(
      asked.answers.flatMap((a) => a.value.tunnels),
      flags.direction !== undefined,
    ).filter((r) => {
      if (!keep(r) || (flags.verdict !== undefined && r.verdict !== flags.verdict)) return false;
      return flags.stale === undefined || now - Date.parse(r.openedAt) > flags.stale;
    });
    const generatedAt = new Date(now).toISOString();
    return await this.show(
      {
        rows,
        columns: tunnelColumns(now),
        name: (r) => `tunnel/${r.id}`,
        document: listDocument("TunnelList", rows, { generatedAt, cluster: source.name, partial }),
        empty: "no connections match",
      },
      flags,
      partial,
    );
  }
}
