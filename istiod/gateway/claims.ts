// Two Gateways may ask for objects of one name (by annotation). The first one has them: written to by both
// they would change for ever.
import type { KubeObject } from "#lib/kube/cluster.ts";
import { type Gateway, groupOf, RESOURCES } from "#lib/kube/objects.ts";

/**
 * @param find the Gateway of that `namespace/name`, if there is one
 * @returns    the name of another Gateway, still there, that `object` was made for
 */
export function otherOwner(
  object: KubeObject,
  gateway: Gateway,
  find: (key: string) => Gateway | undefined,
): string | null {
  const owner = object.metadata.ownerReferences?.find(
    (o) => o.kind === "Gateway" && groupOf(o.apiVersion) === RESOURCES.gateways.group,
  );
  if (owner === undefined || owner.uid === gateway.metadata.uid) return null;
  const other = find(`${object.metadata.namespace ?? ""}/${owner.name}`);
  return other?.metadata.uid === owner.uid ? owner.name : null;
}
