// Writes the one thing the agent tells the cluster of a pod: whether it is redirected. istiod sends HBONE to
// a pod on this word alone, so it comes last.
import type { Cluster } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { REDIRECTION } from "./pod-knobs.ts";

const FIELD_MANAGER = "ambit-cni";

/** Sets the annotation; `null` removes it. Resolves when the pod is gone. */
export type Annotate = (pod: Pod, value: "enabled" | "pending" | null) => Promise<void>;

/**
 * @param subresource  `status` on Kubernetes, where the agent may patch nothing else of a pod; `null` for
 *                     a directory of manifests, which keeps a pod's annotations in the pod itself
 */
export function annotator(cluster: Cluster, subresource: "status" | null): Annotate {
  return async (pod, value) => {
    const { name, namespace = "default" } = pod.metadata;
    // a name may be another pod's by now; the API server compares the UID, a directory would write it
    const uid = subresource === null ? {} : { uid: pod.metadata.uid };
    const patch = { metadata: { ...uid, annotations: { [REDIRECTION]: value } } };
    try {
      await cluster.patch(RESOURCES.pods, namespace, name, patch, {
        fieldManager: FIELD_MANAGER,
        ...(subresource === null ? {} : { subresource }),
      });
    } catch (error) {
      if (error instanceof KubeError && error.code === "NOT_FOUND") return; // gone meanwhile
      throw error;
    }
  };
}
