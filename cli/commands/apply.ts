// `ambit apply`
import * as Flags from "@oclif/core/flags";
import type { Cluster, KubeObject } from "#lib/kube/cluster.ts";
import { AmbitCommand } from "../command.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { FIELD_MANAGER, openCluster } from "../kube/open-cluster.ts";
import { readManifests } from "../kube/read-manifests.ts";
import { replacePatch } from "../kube/replace-patch.ts";
import { displayObject, findResource } from "../kube/resource-names.ts";
import { API_VERSION } from "../render/output.ts";

type Change = "created" | "configured" | "unchanged";

export class Apply extends AmbitCommand {
  static override summary = "Create or change objects from manifests.";
  static override description =
    "Everything is read and checked before anything is changed. Fields that a manifest leaves out are removed; labels and annotations set by others stay.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -f policy.yaml",
    "cat policy.yaml | <%= config.bin %> <%= command.id %> -n shop -f -",
  ];
  static override flags = {
    file: Flags.string({
      char: "f",
      aliases: ["filename"],
      summary: "Manifest file, directory of manifests, or - for stdin.",
      required: true,
      multiple: true,
      multipleNonGreedy: true,
    }),
    "dry-run": Flags.boolean({ summary: "Say what would change, and change nothing." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Apply);
    const objects = await readManifests(flags.file, this.io);
    const cluster = await openCluster(flags, this.io);
    const results: { object: string; change: Change }[] = [];
    for (const given of objects) {
      const resource = resourceFor(given);
      const object = resource.namespaced ? inNamespace(given, flags.namespace) : given;
      const change = await applyOne(cluster, object, flags["dry-run"]);
      results.push({ object: displayObject(object, resource), change });
    }
    const suffix = flags["dry-run"] ? " (dry run)" : "";
    const text = results.map((r) => `${r.object} ${r.change}${suffix}\n`).join("");
    const document = {
      apiVersion: API_VERSION,
      kind: "ApplyResult",
      dryRun: flags["dry-run"],
      items: results,
    };
    await this.showOne({ text, document, names: results.map((r) => r.object) }, flags);
    return EXIT.ok;
  }
}

async function applyOne(cluster: Cluster, object: KubeObject, dryRun: boolean): Promise<Change> {
  const resource = resourceFor(object);
  const namespace = object.metadata.namespace ?? null;
  const current = await cluster.get(resource, namespace, object.metadata.name);
  const options = { fieldManager: FIELD_MANAGER };
  if (current === null) {
    if (!dryRun) await cluster.apply(resource, object, options);
    return "created";
  }
  const patch = replacePatch(current, object);
  if (patch === null) return "unchanged";
  if (!dryRun) await cluster.patch(resource, namespace, object.metadata.name, patch, options);
  return "configured";
}

function resourceFor(object: KubeObject): ReturnType<typeof findResource> {
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "" : `.${object.apiVersion.slice(0, slash)}`;
  return findResource(`${object.kind}${group}`);
}

/**
 * The namespace of a manifest, else of -n. A manifest without one reads as `default`, which -n may override.
 * @throws {CliError} USAGE when they disagree
 */
function inNamespace(object: KubeObject, namespace: string | undefined): KubeObject {
  const own = object.metadata.namespace ?? "default";
  if (own !== "default" && namespace !== undefined && own !== namespace)
    throw new CliError(
      "USAGE",
      `${object.kind} ${object.metadata.name} is in namespace ${own}, and -n says ${namespace}`,
      ["leave out -n, or change the manifest"],
    );
  return { ...object, metadata: { ...object.metadata, namespace: namespace ?? own } };
}
