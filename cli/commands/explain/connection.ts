// `ambit explain connection`
import * as Flags from "@oclif/core/flags";
import type { KubeObject } from "#lib/kube/cluster.ts";
import type { Explanation } from "#lib/model/explanation.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import { spiffeId, spiffeParts, tryParseSpiffeId, type SpiffeId } from "#lib/net/spiffe.ts";
import { AmbitCommand } from "../../command.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { argument, sourceFlags } from "../../flags.ts";
import type { MeshPreview } from "../../kube/preview.ts";
import { choosePlace } from "../../place.ts";
import { parseConfigDump, type ConfigDump } from "../../source/config-dump.ts";
import { gather } from "../../source/mesh-source.ts";
import { gatherOptions, openSource, type SourceFlags } from "../../source/open.ts";

export class ExplainConnection extends AmbitCommand {
  static override summary = "Say what the mesh would do with a connection, and why.";
  static override description =
    "Runs the ztunnels' own decision code on the tables the ztunnels hold now, without sending anything. Exits 0 when the connection would be let through, 3 when it would be denied or has nowhere to go, 4 when an end is unknown. Routes and policies inside a waypoint are not evaluated. With --what-if the answer, exit status included, is the one with the given manifests applied, and what they change is shown; istiod itself translates them, beside the mesh, which stays as it is.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> pod/client svc/server:80 -n shop",
    "<%= config.bin %> <%= command.id %> pod/client svc/server:80 -n shop --what-if policy.yaml",
    "<%= config.bin %> <%= command.id %> client.shop 10.96.0.10:80 -f mesh.json",
    "<%= config.bin %> <%= command.id %> pod/client.shop svc/server.shop --as-identity spiffe://cluster.local/ns/shop/sa/admin",
  ];
  static override args = {
    source: argument({
      description: "pod/<name>[.<namespace>] or an IP address.",
      required: true,
    }),
    destination: argument({
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
    "what-if": Flags.string({
      summary: "Answer as if these manifests were applied: file, directory, or - for stdin.",
      helpValue: "<file>",
      multiple: true,
      multipleNonGreedy: true,
    }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(ExplainConnection);
    const asIdentity =
      flags["as-identity"] === undefined ? null : parseIdentity(flags["as-identity"]);
    const changes = await this.#changes(flags["what-if"] ?? [], flags);
    const source = await openSource(flags, this.io);
    const options = gatherOptions(flags, this.io);
    const { answers, partial } = await gather(source, "/config_dump", parseConfigDump, options);
    this.warnPartial(partial);

    // 40 ms, so only here
    const [{ tablesFromDumps }, { findDestination, findSource }, { explainConnection }] =
      await Promise.all([
        import("../../source/dump-tables.ts"),
        import("../../explain-target.ts"),
        import("#lib/model/explain.ts"),
      ]);
    const explain = (tables: MeshTables, uid: string): Explanation => {
      const from = tables.workloadByUid(uid) ?? findSource(tables, args.source, flags.namespace);
      return explainConnection(tables, {
        source: from,
        destination: findDestination(tables, args.destination, from, flags.namespace),
        network: from.network,
        confidence: source.confidence,
        ...(asIdentity === null ? {} : { asIdentity }),
      });
    };
    const all = tablesFromDumps(answers.map((a) => a.value));
    const { uid, node } = findSource(all, args.source, flags.namespace);
    // The source's own ztunnel decides first: where ztunnels disagree, its tables count.
    const tables = tablesFromDumps(nodeFirst(answers, node));
    const now = explain(tables, uid);
    const preview = changes === null ? null : await this.#preview(changes, flags);
    if (asIdentity !== null) this.#warnUnknown(asIdentity, preview?.tables ?? tables);
    const then = preview === null ? now : explain(preview.tables, uid);
    const meta = {
      generatedAt: new Date(this.io.now()).toISOString(),
      source: source.name,
      partial,
    };
    const { explanationText } = await import("../../render/explanation.ts");
    const { whatIfDocument, whatIfText } = await import("../../render/what-if.ts");
    const { verdict } = then;
    await this.showOne(
      {
        text: preview === null ? explanationText(now) : whatIfText(now, then, preview),
        document: {
          ...then,
          ...(preview === null ? {} : { whatIf: whatIfDocument(now, then, preview) }),
          meta,
        },
        names: [`explanation/${verdict}`],
      },
      flags,
    );
    return verdict === "denied" || verdict === "unroutable" ? EXIT.finding : EXIT.ok;
  }

  /** The manifests of --what-if, read before anything is asked. @throws {CliError} USAGE together with a dump */
  async #changes(files: readonly string[], flags: SourceFlags): Promise<KubeObject[] | null> {
    if (files.length === 0) return null;
    if (flags.file !== undefined)
      throw new CliError("USAGE", "--what-if needs a running mesh, and -f reads a dump", [
        "a dump holds what istiod made of the objects, not the objects themselves",
        "leave out -f to ask the mesh",
      ]);
    const { readForServer, readManifests } = await import("../../kube/read-manifests.ts");
    const isLab = choosePlace(flags, this.io.env).kind === "lab";
    return await (isLab ? readManifests : readForServer)(files, this.io);
  }

  async #preview(objects: readonly KubeObject[], flags: SourceFlags): Promise<MeshPreview> {
    const { labPlace, previewMesh } = await import("../../kube/preview.ts");
    const { namespace, timeout: timeoutMs } = flags;
    const options = { namespace, timeoutMs, signal: this.io.signal };
    const place = choosePlace(flags, this.io.env);
    if (place.kind === "lab") {
      const { readLabState } = await import("../../source/lab-state.ts");
      return await previewMesh(
        await labPlace(await readLabState(place.dir, this.io)),
        objects,
        options,
      );
    }
    const { connect } = await import("../../kube/connect.ts");
    const { checked, clusterPlace } = await import("../../kube/preview-cluster.ts");
    const kube = await connect(flags, this.io);
    const { objects: given, unchecked } = await checked(kube, objects);
    if (unchecked.length > 0)
      this.io.err(`warning: the API server could not check ${unchecked.join(", ")}`);
    return await previewMesh(clusterPlace(kube), given, { ...options, namespace: undefined });
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
