// `ambit explain connection`
import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { MeshTables } from "#lib/model/tables.ts";
import { spiffeId, spiffeParts, tryParseSpiffeId, type SpiffeId } from "#lib/net/spiffe.ts";
import { AmbitCommand } from "../../command.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { sourceFlags } from "../../flags.ts";
import { parseConfigDump, type ConfigDump } from "../../source/config-dump.ts";
import { gather } from "../../source/mesh-source.ts";
import { gatherOptions, openSource } from "../../source/open.ts";

export class ExplainConnection extends AmbitCommand {
  static override summary = "Say what the mesh would do with a connection, and why.";
  static override description =
    "Runs the ztunnels' own decision code on the tables the ztunnels hold now, without sending anything. Exits 0 when the connection would be let through, 3 when it would be denied or has nowhere to go, 4 when an end is unknown. Routes and policies inside a waypoint are not evaluated.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> pod/client svc/server:80 -n shop",
    "<%= config.bin %> <%= command.id %> client.shop 10.96.0.10:80 -f mesh.json",
    "<%= config.bin %> <%= command.id %> pod/client.shop svc/server.shop --as-identity spiffe://cluster.local/ns/shop/sa/admin",
  ];
  static override args = {
    source: Args.string({
      description: "pod/<name>[.<namespace>] or an IP address.",
      required: true,
    }),
    destination: Args.string({
      description:
        "svc/<name>[.<namespace>][:port], pod/<name>[.<namespace>]:port, host:port or ip:port.",
      required: true,
    }),
  };
  static override flags = {
    ...sourceFlags,
    "as-identity": Flags.string({
      summary:
        "Ask as if the source had this identity: spiffe://<trust domain>/ns/<namespace>/sa/<account>.",
      helpValue: "<identity>",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(ExplainConnection);
    const asIdentity =
      flags["as-identity"] === undefined ? null : parseIdentity(flags["as-identity"]);
    const source = await openSource(flags, this.io);
    const options = gatherOptions(flags, this.io);
    const { answers, partial } = await gather(source, "/config_dump", parseConfigDump, options);
    this.warnPartial(partial);

    // 40 ms, so only here
    const [
      { tablesFromDumps },
      { findDestination, findSource },
      { explainConnection },
      { explanationText },
    ] = await Promise.all([
      import("../../source/dump-tables.ts"),
      import("../../explain-target.ts"),
      import("#lib/model/explain.ts"),
      import("../../render/explanation.ts"),
    ]);
    let tables = tablesFromDumps(answers.map((a) => a.value));
    const from = findSource(tables, args.source, flags.namespace);
    // The source's own ztunnel decides first: where ztunnels disagree, its tables count.
    tables = tablesFromDumps(nodeFirst(answers, from.node));
    const workload = tables.workloadByUid(from.uid) ?? from;
    const destination = findDestination(tables, args.destination, workload, flags.namespace);
    const explanation = explainConnection(tables, {
      source: workload,
      destination,
      network: workload.network,
      confidence: source.confidence,
      ...(asIdentity === null ? {} : { asIdentity }),
    });
    if (asIdentity !== null) this.#warnUnknown(asIdentity, tables);
    const meta = {
      generatedAt: new Date(this.io.now()).toISOString(),
      source: source.name,
      partial,
    };
    const { verdict } = explanation;
    await this.showOne(
      {
        text: explanationText(explanation),
        document: { ...explanation, meta },
        names: [`explanation/${verdict}`],
      },
      flags,
    );
    return verdict === "denied" || verdict === "unroutable" ? EXIT.finding : EXIT.ok;
  }

  #warnUnknown(identity: SpiffeId, tables: MeshTables): void {
    const { namespace, serviceAccount } = spiffeParts(identity);
    for (const w of tables.workloads())
      if (w.namespace === namespace && w.serviceAccount === serviceAccount) return;
    this.io.err(`warning: no workload runs as ${identity}`);
  }
}

function nodeFirst(
  answers: readonly { readonly node: string; readonly value: ConfigDump }[],
  node: string,
): ConfigDump[] {
  const own = answers.filter((a) => a.node === node);
  return [...own, ...answers.filter((a) => a.node !== node)].map((a) => a.value);
}

/** A SPIFFE identity, or a policy's principal: the same without scheme. @throws {CliError} USAGE */
function parseIdentity(text: string): SpiffeId {
  const id = tryParseSpiffeId(text) ?? tryParseSpiffeId(`spiffe://${text}`);
  if (id !== null) return spiffeId(spiffeParts(id));
  throw new CliError("USAGE", `Not an identity: ${JSON.stringify(text)}`, [
    "write spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
  ]);
}
