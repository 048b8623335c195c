// Did anything change but what controllers report?
import { isDeepStrictEqual } from "node:util";
import type { KubeObject } from "#lib/kube/cluster.ts";

export function isSameButStatus(a: KubeObject, b: KubeObject): boolean {
  const described = ({ metadata, ...rest }: KubeObject): unknown => {
    const { generation, labels, annotations, ownerReferences, deletionTimestamp, uid } = metadata;
    // Where nobody counts generations the whole object is compared.
    const content = generation === undefined ? { ...rest, status: undefined } : generation;
    return { content, labels, annotations, ownerReferences, deletionTimestamp, uid };
  };
  return isDeepStrictEqual(described(a), described(b));
}
