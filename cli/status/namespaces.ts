// Namespaces and their part in the mesh.
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { MODE_LABEL, tally } from "../kube/enrollment.ts";
import { listServed } from "../kube/mesh-view.ts";
import { mtlsOf } from "../kube/policies.ts";
import { waypointUse } from "../kube/waypoints.ts";

export interface NamespaceRow {
  readonly name: string;
  /** The label's value, or empty. */
  readonly mode: string;
  readonly pods: number;
  readonly captured: number;
  readonly pending: number;
  /** `namespace/name`, or just the name of one at home; `null` for none. */
  readonly waypoint: string | null;
  readonly mtls: string;
  readonly revision: string;
  readonly skipped: number;
}

export async function readNamespaces(
  cluster: Cluster,
  rootNamespace: string,
  labelSelector?: string,
): Promise<readonly NamespaceRow[]> {
  const [namespaces, pods, peerAuthentications] = await Promise.all([
    cluster.list(RESOURCES.namespaces, labelSelector === undefined ? {} : { labelSelector }),
    cluster.list(RESOURCES.pods),
    listServed(cluster, RESOURCES.peerAuthentications),
  ]);
  return namespaces
    .map((n): NamespaceRow => {
      const { name, labels } = n.metadata;
      const own = pods.filter((p) => p.metadata.namespace === name);
      const t = tally(own, n);
      const use = waypointUse(n, n);
      const mode = mtlsOf(
        peerAuthentications,
        { metadata: { name: "", namespace: name } },
        rootNamespace,
      );
      return {
        name,
        mode: labels?.[MODE_LABEL] ?? "",
        pods: own.length,
        captured: t.captured.length,
        pending: t.pending.length,
        waypoint:
          use === null ? null : use.namespace === name ? use.name : `${use.namespace}/${use.name}`,
        mtls: mode.mode,
        revision: labels?.["istio.io/rev"] ?? "",
        skipped: t.skipped.length,
      };
    })
    .toSorted((a, b) => a.name.localeCompare(b.name));
}
