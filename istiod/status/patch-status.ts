// Writes to the status of an object that has just been read: no other's change in between is overwritten.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";

/**
 * @param live   as read; the write fails when it has changed since (`CONFLICT`), and is tried again from the start
 * @param status fields to set, `null` to take away; lists are replaced as a whole
 * @returns      `false` when the object is gone
 * @throws {KubeError}
 */
export async function patchStatus(
  cluster: Cluster,
  resource: Resource,
  live: KubeObject,
  status: Readonly<Record<string, unknown>>,
  fieldManager: string,
): Promise<boolean> {
  const { namespace = null, name, resourceVersion } = live.metadata;
  const metadata = resourceVersion === undefined ? {} : { resourceVersion };
  const options = { fieldManager, subresource: "status" } as const;
  try {
    await cluster.patch(resource, namespace, name, { metadata, status }, options);
    return true;
  } catch (error) {
    if (error instanceof KubeError && error.code === "NOT_FOUND") return false;
    throw error;
  }
}

/**
 * Server-side apply: what `fieldManager` wrote before and is not in `object` goes, all else stays.
 * @param object with its uid, so that a new one of this name is left alone
 * @returns      `false` when the object is gone
 * @throws {KubeError}
 */
export async function applyStatus<T extends KubeObject>(
  cluster: Cluster,
  resource: Resource<T>,
  object: T,
  fieldManager: string,
): Promise<boolean> {
  try {
    await cluster.apply(resource, object, { fieldManager, subresource: "status" });
    return true;
  } catch (error) {
    if (error instanceof KubeError && (error.code === "NOT_FOUND" || error.code === "CONFLICT"))
      return false;
    throw error;
  }
}
