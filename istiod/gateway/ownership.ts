// Which revision of the control plane looks after a Gateway: the one its label, or its namespace's, names,
// by name or by a tag. Source: istio pkg/revisions/tag_watcher.go.
import type { Labels } from "#lib/kube/labels.ts";
import type { Service } from "#lib/kube/objects.ts";
import { REVISION, TAG } from "./keys.ts";

/** An empty revision is called this, in locks and labels. */
const DEFAULT_REVISION = "default";

export function revisionName(revision: string): string {
  return revision === "" ? DEFAULT_REVISION : revision;
}

/** Our revision and the tags that stand for it. */
export function ownTags(revision: string, services: Iterable<Service>): ReadonlySet<string> {
  const own = revisionName(revision);
  const tags = new Set([own]);
  for (const { metadata } of services) {
    const tag = metadata.labels?.[TAG];
    if (tag !== undefined && metadata.labels?.[REVISION] === own) tags.add(tag);
  }
  return tags;
}

/**
 * @param labels     of the object
 * @param namespace  labels of its namespace; `undefined` while that is not known: then it is ours
 */
export function isOurs(
  labels: Labels | undefined,
  namespace: Labels | undefined,
  tags: ReadonlySet<string>,
): boolean {
  const own = labels?.[REVISION];
  if (own === undefined && namespace === undefined) return true;
  return tags.has(own ?? namespace?.[REVISION] ?? DEFAULT_REVISION);
}
