// Labels that make objects use a waypoint, set and taken away; each change is a line kubectl would print.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { FIELD_MANAGER } from "../kube/open-cluster.ts";
import { displayName } from "../kube/resource-names.ts";
import { USE_WAYPOINT, USE_WAYPOINT_NAMESPACE } from "../kube/waypoints.ts";
import type { Member } from "./account-users.ts";

export interface UseChange {
  readonly object: string;
  readonly change: "labeled" | "unlabeled" | "unchanged";
}

export interface UseOptions {
  readonly overwrite: boolean;
  readonly dryRun: boolean;
}

/** @throws {CliError} CONFLICT when another waypoint is asked for already, and nothing is overwritten */
export async function useWaypoint(
  cluster: Cluster,
  { resource, object }: Member,
  waypoint: string,
  { overwrite, dryRun }: UseOptions,
): Promise<UseChange> {
  const name = displayName(resource, object.metadata.name);
  const old = object.metadata.labels?.[USE_WAYPOINT];
  if (old === waypoint) return { object: name, change: "unchanged" };
  if (old !== undefined && !overwrite)
    throw new CliError("CONFLICT", `${name} already has ${USE_WAYPOINT}=${old}`, [
      "add --overwrite to change it",
    ]);
  if (!dryRun) await patchLabels(cluster, resource, object, { [USE_WAYPOINT]: waypoint });
  return { object: name, change: "labeled" };
}

/** The pod template of a Deployment and the like: its pods are made anew. */
export async function useWaypointInTemplate(
  cluster: Cluster,
  { resource, object }: Member,
  waypoint: string | null,
  dryRun: boolean,
): Promise<UseChange> {
  const name = `${displayName(resource, object.metadata.name)} (pod template)`;
  const { template } = ((object as { readonly spec?: unknown }).spec ?? {}) as {
    readonly template?: {
      readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
    };
  };
  if ((template?.metadata?.labels?.[USE_WAYPOINT] ?? null) === waypoint)
    return { object: name, change: "unchanged" };
  const patch = { spec: { template: { metadata: { labels: { [USE_WAYPOINT]: waypoint } } } } };
  const { name: own, namespace = null } = object.metadata;
  if (!dryRun)
    await cluster.patch(resource, namespace, own, patch, { fieldManager: FIELD_MANAGER });
  return { object: name, change: waypoint === null ? "unlabeled" : "labeled" };
}

const USERS: readonly Resource[] = [
  RESOURCES.namespaces,
  RESOURCES.services,
  RESOURCES.pods,
  RESOURCES.serviceEntries,
  RESOURCES.workloadEntries,
];
const TEMPLATES: readonly Resource[] = [
  RESOURCES.deployments,
  RESOURCES.statefulSets,
  RESOURCES.daemonSets,
];

/** Objects whose own label names the waypoint; of everything in `namespaces`, or everywhere. */
export async function usersOf(
  cluster: Cluster,
  waypoint: { readonly namespace: string; readonly name: string },
): Promise<Member[]> {
  const { listServed } = await import("../kube/mesh-view.ts");
  const lists = await Promise.all(
    USERS.map(async (resource) =>
      (await listServed(cluster, resource))
        .filter((o) => names(o, waypoint))
        .map((object) => ({
          resource,
          object,
        })),
    ),
  );
  return lists.flat();
}

/** Takes every label away that names the waypoint, templates included. */
export async function leaveWaypoint(
  cluster: Cluster,
  waypoint: { readonly namespace: string; readonly name: string },
  dryRun: boolean,
): Promise<UseChange[]> {
  const changes: UseChange[] = [];
  for (const { resource, object } of await usersOf(cluster, waypoint)) {
    if (!dryRun)
      await patchLabels(cluster, resource, object, {
        [USE_WAYPOINT]: null,
        [USE_WAYPOINT_NAMESPACE]: null,
      });
    changes.push({ object: displayName(resource, object.metadata.name), change: "unlabeled" });
  }
  for (const resource of TEMPLATES)
    for (const object of await cluster.list(resource, { namespace: waypoint.namespace })) {
      const { template } = ((object as { readonly spec?: unknown }).spec ?? {}) as {
        readonly template?: {
          readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
        };
      };
      if (template?.metadata?.labels?.[USE_WAYPOINT] !== waypoint.name) continue;
      changes.push(await useWaypointInTemplate(cluster, { resource, object }, null, dryRun));
    }
  return changes;
}

function names(
  { metadata, kind }: KubeObject,
  waypoint: { readonly namespace: string; readonly name: string },
): boolean {
  const home = kind === "Namespace" ? metadata.name : metadata.namespace;
  const where = metadata.labels?.[USE_WAYPOINT_NAMESPACE] ?? home;
  return metadata.labels?.[USE_WAYPOINT] === waypoint.name && where === waypoint.namespace;
}

async function patchLabels(
  cluster: Cluster,
  resource: Resource,
  { metadata }: KubeObject,
  labels: Readonly<Record<string, string | null>>,
): Promise<void> {
  const { name, namespace = null } = metadata;
  await cluster.patch(
    resource,
    namespace,
    name,
    { metadata: { labels } },
    { fieldManager: FIELD_MANAGER },
  );
}
