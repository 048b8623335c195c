// How long connections may go on once a proxy was told to end.
import type { ConfigReader } from "./config-reader.ts";

/** With a Kubernetes grace period g, the last 5 s (1 s when g is short) are left for the forced close. */
export function readDrainDeadline(r: ConfigReader): number {
  const explicit = r.durationMs("CONNECTION_TERMINATION_DEADLINE", null);
  const grace = r.integer("TERMINATION_GRACE_PERIOD_SECONDS", null, 0, 86_400);
  if (explicit !== null) return explicit;
  if (grace === null) return 5_000;
  return Math.max(1, grace > 10 ? grace - 5 : grace - 1) * 1_000;
}
