// `ambit get`
import * as Flags from "@oclif/core/flags";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { AmbitCommand } from "../command.ts";
import { CliError, type ExitCode } from "../errors.ts";
import { argument } from "../flags.ts";
import { objectColumns } from "../kube/object-columns.ts";
import { namespaceFor, openCluster, requireObject } from "../kube/open-cluster.ts";
import { displayObject, findResource } from "../kube/resource-names.ts";

export class Get extends AmbitCommand {
  static override summary = "Show objects of the mesh's cluster, as kubectl get does.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> pods -n shop -o wide",
    "<%= config.bin %> <%= command.id %> authorizationpolicies -A",
    "<%= config.bin %> <%= command.id %> namespace shop -o yaml",
  ];
  static override args = {
    kind: argument({
      description: "Kind, also short: po, svc, ns, ap, pa, or kind/name.",
      required: true,
    }),
    name: argument({ description: "Only this object.", required: false }),
  };
  static override flags = {
    selector: Flags.string({
      char: "l",
      summary: "Only objects with these labels.",
      helpValue: "<labels>",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(Get);
    const [kind = "", slashName] = args.kind.split("/", 2);
    const name = args.name ?? slashName;
    const resource = findResource(kind);
    const cluster = await openCluster(flags, this.io);
    const everywhere = flags["all-namespaces"] || !resource.namespaced;
    const namespace = everywhere ? null : namespaceFor(resource, flags);
    if (name !== undefined && flags["all-namespaces"] && resource.namespaced)
      throw new CliError("USAGE", "A name and --all-namespaces exclude each other", ["use -n"]);
    const objects: readonly KubeObject[] =
      name !== undefined
        ? [await requireObject(cluster, resource, namespace, name)]
        : await cluster.list(resource, {
            ...(namespace === null ? {} : { namespace }),
            ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
          });
    const rows = objects.toSorted(
      (a, b) =>
        (a.metadata.namespace ?? "").localeCompare(b.metadata.namespace ?? "") ||
        a.metadata.name.localeCompare(b.metadata.name),
    );
    const where = namespace === null ? "" : ` in namespace ${namespace}`;
    return await this.show(
      {
        rows,
        columns: objectColumns(resource, flags["all-namespaces"], this.io.now()),
        name: (o) => displayObject(o, resource),
        document: name !== undefined ? rows[0] : { apiVersion: "v1", kind: "List", items: rows },
        empty: `No ${resource.plural} found${where}`,
      },
      flags,
    );
  }
}
