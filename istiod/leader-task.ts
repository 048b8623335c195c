// Work that one replica does at a time, and the lock that says which: the seam between the leader
// election (leader-tasks.ts) and the rooms that write into the cluster.

/** Locks are objects of istiod's namespace; their names and kinds are Istio's. */
export interface LeaderTask {
  /** For example `istio-status-leader`; one per revision where the work is (`revisionLock`). */
  readonly lock: string;
  readonly lockKind: "lease" | "configMap";
  /**
   * Works until `signal` ends the term; may be called again for a later one, never twice at once.
   * The tables are complete when it is called. A rejection ends the term, and the election goes on.
   */
  lead(signal: AbortSignal): Promise<void>;
}

/** Work of every replica, whoever leads: from complete tables until istiod stops. */
export interface ReplicaTask {
  readonly name: string;
  run(signal: AbortSignal): Promise<void>;
}

/** A lock of one revision; no revision is `default`: `istio-gateway-deployment-default`. */
export function revisionLock(name: string, revision: string): string {
  return `${name}-${revision === "" ? "default" : revision}`;
}
