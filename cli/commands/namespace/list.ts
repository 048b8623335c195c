// `ambit namespace list`
import * as Flags from "@oclif/core/flags";
import { AmbitCommand, type Globals } from "../../command.ts";
import { EXIT, type ExitCode } from "../../errors.ts";
import { selectorFlag } from "../../flags.ts";
import { warnWithoutMesh } from "../../kube/mesh-presence.ts";
import { openCluster } from "../../kube/open-cluster.ts";
import { listDocument } from "../../render/output.ts";
import type { Column } from "../../render/table.ts";
import { readNamespaces, type NamespaceRow } from "../../status/namespaces.ts";

export class NamespaceList extends AmbitCommand {
  static override summary = "List namespaces and their part in the mesh.";
  static override description =
    "MODE is the label istio.io/dataplane-mode; CAPTURED and PENDING count pods. MTLS is what holds for the namespace as a whole.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> -l istio.io/dataplane-mode=ambient -o wide",
    "<%= config.bin %> <%= command.id %> --watch",
  ];
  static override flags = {
    ...selectorFlag,
    watch: Flags.boolean({ char: "w", summary: "Show them again whenever they change." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(NamespaceList);
    const mesh = await openCluster(flags, this.io);
    const { cluster, meshNamespace } = mesh;
    await warnWithoutMesh(mesh, this.io);
    const look = async () =>
      (await readNamespaces(cluster, meshNamespace, flags.selector)).filter(
        (n) => flags.namespace === undefined || n.name === flags.namespace,
      );
    if (!flags.watch) return await this.#print(await look(), flags);
    const { repeat } = await import("../../kube/repeat.ts");
    await repeat(look, JSON.stringify, (rows) => this.#print(rows, flags), this.io);
    return EXIT.interrupted;
  }

  async #print(rows: readonly NamespaceRow[], flags: Globals): Promise<ExitCode> {
    const generatedAt = new Date(this.io.now()).toISOString();
    return await this.show(
      {
        rows,
        columns: COLUMNS,
        name: (r) => `namespace/${r.name}`,
        document: listDocument("NamespaceList", rows, { generatedAt, partial: [] }),
        empty: "no namespaces match",
      },
      flags,
    );
  }
}

const COLUMNS: readonly Column<NamespaceRow>[] = [
  { header: "NAMESPACE", value: (n) => n.name },
  { header: "MODE", value: (n) => n.mode || "-" },
  { header: "PODS", value: (n) => String(n.pods) },
  { header: "CAPTURED", value: (n) => String(n.captured) },
  { header: "PENDING", value: (n) => String(n.pending) },
  { header: "WAYPOINT", value: (n) => n.waypoint ?? "-" },
  { header: "MTLS", value: (n) => n.mtls },
  { header: "REVISION", wide: true, value: (n) => n.revision || "-" },
  { header: "SKIPPED", wide: true, value: (n) => String(n.skipped) },
];
