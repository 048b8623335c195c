// One object of a manifest, put into a cluster: what `apply` does, and `--what-if` in a copy.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { CliError } from "../errors.ts";
import { FIELD_MANAGER } from "./open-cluster.ts";
import { replacePatch } from "./replace-patch.ts";
import { displayObject, findResource } from "./resource-names.ts";

export type Change = "created" | "configured" | "unchanged";

export interface Applied {
  /** `kind.group/name`. */
  readonly object: string;
  readonly change: Change;
}

export interface ApplyOptions {
  /** Of `-n`. */
  readonly namespace: string | undefined;
  readonly dryRun: boolean;
}

/** @throws {CliError} USAGE for an unknown kind, or when the manifest and `-n` disagree */
export async function applyObject(
  cluster: Cluster,
  given: KubeObject,
  { namespace, dryRun }: ApplyOptions,
): Promise<Applied> {
  const resource = resourceOf(given);
  const object = resource.namespaced ? inNamespace(given, namespace) : given;
  const change = await changeOf(cluster, resource, object, dryRun);
  return { object: displayObject(object, resource), change };
}

async function changeOf(
  cluster: Cluster,
  resource: Resource,
  object: KubeObject,
  dryRun: boolean,
): Promise<Change> {
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

function resourceOf(object: KubeObject): Resource {
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "" : `.${object.apiVersion.slice(0, slash)}`;
  return findResource(`${object.kind}${group}`);
}

/** The namespace of a manifest, else of -n. A manifest without one reads as `default`, which -n may override. */
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
