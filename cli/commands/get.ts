// `ambit get`
import * as Flags from "@oclif/core/flags";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { AmbitCommand, type Globals } from "../command.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { argument, selectorFlag } from "../flags.ts";
import { findKind, refuseUnknown } from "../kube/find-kind.ts";
import { objectColumns } from "../kube/object-columns.ts";
import { namespaceFor, openCluster, requireObject } from "../kube/open-cluster.ts";
import { displayObject } from "../kube/resource-names.ts";
import type { View } from "../render/output.ts";

export class Get extends AmbitCommand {
  static override summary = "Show objects of the mesh's cluster, as kubectl get does.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> pods -n shop -o wide",
    "<%= config.bin %> <%= command.id %> authorizationpolicies -A",
    "<%= config.bin %> <%= command.id %> namespace shop -o yaml",
    "<%= config.bin %> <%= command.id %> pods -n shop --watch",
  ];
  static override args = {
    kind: argument({
      description:
        "Kind, also short: po, svc, ns, ap, pa, or kind/name. In a cluster any kind it serves.",
      required: true,
    }),
    name: argument({ description: "Only this object.", required: false }),
  };
  static override flags = {
    ...selectorFlag,
    watch: Flags.boolean({
      char: "w",
      summary: "Go on with a row for each object that changes; with -o json one line each.",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(Get);
    const [kind = "", slashName] = args.kind.split("/", 2);
    const name = args.name ?? slashName;
    refuseUnknown(flags, this.io.env, [kind]);
    const mesh = await openCluster(flags, this.io);
    const resource = await findKind(mesh, kind);
    const { cluster } = mesh;
    const everywhere = flags["all-namespaces"] || !resource.namespaced;
    const namespace = everywhere ? null : namespaceFor(resource, flags, mesh);
    if (name !== undefined && flags["all-namespaces"] && resource.namespaced)
      throw new CliError("USAGE", "A name and --all-namespaces exclude each other", ["use -n"]);
    const look = async (): Promise<readonly KubeObject[]> =>
      name !== undefined
        ? [await requireObject(cluster, resource, namespace, name)]
        : (
            await cluster.list(resource, {
              ...(namespace === null ? {} : { namespace }),
              ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
            })
          ).toSorted(byName);
    const where = namespace === null ? "" : ` in namespace ${namespace}`;
    const view = (rows: readonly KubeObject[]): View<KubeObject> => ({
      rows,
      columns: objectColumns(resource, flags["all-namespaces"], this.io.now()),
      name: (o) => displayObject(o, resource),
      document: name !== undefined ? rows[0] : { apiVersion: "v1", kind: "List", items: rows },
      empty: `No ${resource.plural} found${where}`,
    });
    if (!flags.watch) return await this.show(view(await look()), flags);
    return await this.#watch(look, view, flags);
  }

  async #watch(
    look: () => Promise<readonly KubeObject[]>,
    view: (rows: readonly KubeObject[]) => View<KubeObject>,
    flags: Globals,
  ): Promise<ExitCode> {
    const { repeat } = await import("../kube/repeat.ts");
    const seen = new Map<string, string>();
    const version = ({ metadata: m }: KubeObject): string => m.resourceVersion ?? JSON.stringify(m);
    const show = async (rows: readonly KubeObject[], isFirst: boolean): Promise<void> => {
      const changed = rows.filter((o) => seen.get(keyOf(o)) !== version(o));
      for (const o of changed) seen.set(keyOf(o), version(o));
      if (this.format(flags) === "json")
        await this.io.out(changed.map((o) => `${JSON.stringify(o)}\n`).join(""));
      else if (changed.length > 0 || isFirst)
        await this.show(view(changed), { ...flags, "no-headers": flags["no-headers"] || !isFirst });
    };
    const key = (rows: readonly KubeObject[]): string => rows.map(version).join(" ");
    await repeat(look, key, show, this.io);
    return EXIT.interrupted;
  }
}

function keyOf({ metadata: m }: KubeObject): string {
  return `${m.namespace}/${m.name}`;
}

function byName(a: KubeObject, b: KubeObject): number {
  return (
    (a.metadata.namespace ?? "").localeCompare(b.metadata.namespace ?? "") ||
    a.metadata.name.localeCompare(b.metadata.name)
  );
}
