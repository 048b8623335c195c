// Why pods are not ready for reasons that do not stand in their own status: nobody could make them, or their node is gone.
import { RESOURCES, type PodController } from "#lib/kube/objects.ts";
import { KubeError } from "#lib/kube/errors.ts";
import type { Kube } from "../kube/connect.ts";
import { conditionOf } from "../kube/pod-state.ts";

/** A quota, an admission policy such as Pod Security, a webhook: lines, or none where every pod was made. */
export async function refusedPods(kube: Kube, c: PodController): Promise<string[]> {
  const { name, namespace = "" } = c.metadata;
  const kind = c.kind.toLowerCase();
  const message =
    conditionOf(c.status?.conditions, "ReplicaFailure")?.message ?? (await lastRefusal(kube, c));
  if (message === "") return [];
  return [
    `no pod could be made for ${kind} ${namespace}/${name}: ${message}`,
    `kubectl -n ${namespace} describe ${kind} ${name}`,
  ];
}

/** Of a DaemonSet, which says it in events only. What may not be read is not said. */
async function lastRefusal(kube: Kube, { kind, metadata }: PodController): Promise<string> {
  const { name, namespace = "" } = metadata;
  const fieldSelector = `involvedObject.kind=${kind},involvedObject.name=${name},reason=FailedCreate`;
  try {
    const events = await kube.cluster.list(RESOURCES.events, { namespace, fieldSelector });
    const times = (e: object): string =>
      (e as { readonly lastTimestamp?: string }).lastTimestamp ?? "";
    const last = events.toSorted((a, b) => times(a).localeCompare(times(b))).at(-1);
    return (last as { readonly message?: string } | undefined)?.message ?? "";
  } catch (error) {
    if (error instanceof KubeError) return "";
    throw error;
  }
}

/** A line about a node that is not ready; empty for one that is, or that may not be read. */
export async function nodeTrouble(kube: Kube, node: string | undefined): Promise<string> {
  if (node === undefined || node === "") return "";
  const found = await kube.cluster.get(RESOURCES.nodes, null, node).catch(() => null);
  const ready = conditionOf(found?.status?.conditions, "Ready");
  if (found === null || ready === undefined || ready.status === "True") return "";
  return `node ${node} is not ready: ${ready.reason ?? "NotReady"}: ${ready.message ?? "no message"} (kubectl describe node ${node})`;
}
