// The waypoint's own record in the mesh: its network, its place, and the services it stands behind. What is bound to
// it is found through this record.
import type { MeshTables } from "#lib/model/tables.ts";
import type { Workload } from "#lib/model/workload.ts";

export class OwnRecord {
  readonly #tables: MeshTables;
  readonly #uid: string;
  #last: Workload | null = null;

  constructor(
    tables: MeshTables,
    pod: { readonly clusterId: string; readonly namespace: string; readonly name: string },
  ) {
    this.#tables = tables;
    this.#uid = `${pod.clusterId}//Pod/${pod.namespace}/${pod.name}`;
  }

  /** As it is now, or was last: a pod that ends loses its record before its last connections. */
  get current(): Workload | null {
    const now = this.#tables.workloadByUid(this.#uid);
    if (now !== null) this.#last = now;
    return this.#last;
  }
}
