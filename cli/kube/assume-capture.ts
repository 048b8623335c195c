// Enrolment in a copy of the cluster: what the CNI agents would do about changed labels, which no agent does there.
import type { Cluster } from "#lib/kube/cluster.ts";
import { objectName, RESOURCES, type Namespace, type Pod } from "#lib/kube/objects.ts";
import { enrollmentOf, REDIRECTION_ANNOTATION, wantsMesh } from "./enrollment.ts";
import { FIELD_MANAGER } from "./open-cluster.ts";

export interface Assumed {
  /** `namespace/pod` each. */
  readonly captured: readonly string[];
  readonly released: readonly string[];
}

/** Marks in `copy` the pods that its labels, and not those of `now`, want in the mesh or out of it. */
export async function assumeCapture(now: Cluster, copy: Cluster): Promise<Assumed> {
  const [before, after] = await Promise.all([inMesh(now), inMesh(copy)]);
  const captured: string[] = [];
  const released: string[] = [];
  for (const [key, { pod, wants }] of after) {
    const was = before.get(key);
    if (was === undefined || was.wants === wants) continue; // a new pod has no address to be captured at
    const { kind } = enrollmentOf(pod, wants);
    if (wants && kind === "pending") captured.push(key);
    else if (!wants && kind === "captured") released.push(key);
    else continue;
    const mark = {
      metadata: { annotations: { [REDIRECTION_ANNOTATION]: wants ? "enabled" : null } },
    };
    const { name, namespace = null } = pod.metadata;
    await copy.patch(RESOURCES.pods, namespace, name, mark, { fieldManager: FIELD_MANAGER });
  }
  return { captured, released };
}

async function inMesh(cluster: Cluster): Promise<Map<string, { pod: Pod; wants: boolean }>> {
  const [namespaces, pods] = await Promise.all([
    cluster.list(RESOURCES.namespaces),
    cluster.list(RESOURCES.pods),
  ]);
  const byName = new Map(namespaces.map((n): [string, Namespace] => [n.metadata.name, n]));
  return new Map(
    pods.map((pod) => {
      const namespace = byName.get(pod.metadata.namespace ?? "") ?? null;
      return [objectName(pod), { pod, wants: wantsMesh(pod, namespace) }];
    }),
  );
}
