// What `enroll` and `unenroll` can be told: a namespace, a pod, or what makes pods.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { compileLabelSelector } from "#lib/kube/labels.ts";
import { RESOURCES, type PodController } from "#lib/kube/objects.ts";
import { CliError } from "./errors.ts";
import { requireObject } from "./kube/open-cluster.ts";
import { findResource } from "./kube/resource-names.ts";
import type { Scope } from "./kube/wait-enrolled.ts";

export interface Target {
  readonly resource: Resource;
  readonly object: KubeObject;
  readonly scope: Scope;
  /** The label goes into the template its pods are made from. */
  readonly hasTemplate: boolean;
}

const CONTROLLERS: readonly Resource[] = [
  RESOURCES.deployments,
  RESOURCES.statefulSets,
  RESOURCES.daemonSets,
];

/**
 * @param word  `ns/x`, `pod/x`, `deploy/x`, `sts/x`, `ds/x`
 * @param home  of anything but a namespace
 * @throws {CliError} USAGE for another kind, NOT_FOUND
 */
export async function enrollTarget(cluster: Cluster, word: string, home: string): Promise<Target> {
  const slash = word.indexOf("/");
  if (slash < 0)
    throw new CliError("USAGE", `What is ${JSON.stringify(word)}?`, [
      `write ns/${word}, pod/${word} or deploy/${word}`,
    ]);
  const resource = findResource(word.slice(0, slash));
  const name = word.slice(slash + 1);
  if (resource === RESOURCES.namespaces) {
    const object = await requireObject(cluster, resource, null, name);
    return { resource, object, scope: { namespace: name, pods: null }, hasTemplate: false };
  }
  if (resource === RESOURCES.pods) {
    const object = await requireObject(cluster, resource, home, name);
    const scope: Scope = { namespace: home, pods: (p) => p.metadata.name === name };
    return { resource, object, scope, hasTemplate: false };
  }
  if (CONTROLLERS.includes(resource)) {
    const object = await requireObject(cluster, resource, home, name);
    const selects = compileLabelSelector((object as PodController).spec?.selector ?? {});
    const scope: Scope = { namespace: home, pods: (p) => selects(p.metadata.labels) };
    return { resource, object, scope, hasTemplate: true };
  }
  throw new CliError("USAGE", `A ${resource.kind} cannot be enrolled: ${JSON.stringify(word)}`, [
    "enrol its namespace (ns/…), its pods (pod/…) or what makes them (deploy/…, sts/…, ds/…)",
  ]);
}

/** Labels a pod of it has, or will have. */
export function labelsOf({ object, hasTemplate }: Target): Readonly<Record<string, string>> {
  if (!hasTemplate) return object.metadata.labels ?? {};
  return (object as PodController).spec?.template?.metadata?.labels ?? {};
}

/** A merge patch that sets labels; null removes one. */
export function labelPatch(
  { hasTemplate }: Pick<Target, "hasTemplate">,
  labels: Readonly<Record<string, string | null>>,
): Readonly<Record<string, unknown>> {
  return hasTemplate ? { spec: { template: { metadata: { labels } } } } : { metadata: { labels } };
}
