// One object of a manifest, put into a cluster: what `apply` does, and `--what-if` in a copy.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { CliError } from "../errors.ts";
import type { Kube } from "./connect.ts";
import { missingKindHint } from "./missing-kind.ts";
import { FIELD_MANAGER, type OpenCluster } from "./open-cluster.ts";
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
  mesh: Pick<OpenCluster, "cluster" | "kube">,
  given: KubeObject,
  { namespace, dryRun }: ApplyOptions,
): Promise<Applied> {
  const { kube } = mesh;
  const resource = kube === null ? resourceOf(given) : await servedResource(kube, given);
  const object = !resource.namespaced
    ? given
    : kube === null
      ? inNamespace(given, namespace, "default")
      : inNamespace(given, namespace, kube.namespace);
  const change =
    kube === null
      ? await changeOf(mesh.cluster, resource, object, dryRun)
      : await serverSideChange(kube, resource, object, dryRun);
  return { object: displayObject(object, resource), change };
}

async function serverSideChange(
  kube: Kube,
  resource: Resource,
  object: KubeObject,
  dryRun: boolean,
): Promise<Change> {
  const { serverSideApply } = await import("./server-side-apply.ts");
  return (await serverSideApply(kube, resource, object, { dryRun })).change;
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

/** Whatever the API server serves, also what the mesh does not know. */
async function servedResource(kube: Kube, object: KubeObject): Promise<Resource> {
  const { findResource: find } = await import("#lib/kube/api-server/discovery.ts");
  const found = await find(kube.server, object.apiVersion, object.kind);
  if (found !== null) return found;
  const group = object.apiVersion.includes("/") ? (object.apiVersion.split("/")[0] ?? "") : "";
  throw new CliError("NOT_FOUND", `${kube.name} serves no ${object.kind} of ${object.apiVersion}`, [
    missingKindHint(group),
  ]);
}

/** The namespace of a manifest, else of -n, else `home`. One read for a lab says `default` when it says none. */
function inNamespace(object: KubeObject, namespace: string | undefined, home: string): KubeObject {
  const own = object.metadata.namespace ?? home;
  if (own !== home && namespace !== undefined && own !== namespace)
    throw new CliError(
      "USAGE",
      `${object.kind} ${object.metadata.name} is in namespace ${own}, and -n says ${namespace}`,
      ["leave out -n, or change the manifest"],
    );
  return { ...object, metadata: { ...object.metadata, namespace: namespace ?? own } };
}
