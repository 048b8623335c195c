// What holds for a pod, as far as the agent has seen for itself: never what an annotation claims. A pod
// that came back with a node after a reboot is annotated, and outside the mesh until somebody looks.
import type { Pod } from "#lib/kube/objects.ts";
import type { Wish } from "../enrolment/wish.ts";
import { redirectionOf } from "./pod-knobs.ts";
import type { PodRecord } from "./pod-record.ts";

export type PodState = "in the mesh" | "outside" | "not as wanted";
export type PodCounts = Readonly<Record<PodState, number>>;

/** @param isAcked  a ztunnel serves the very namespace that the record holds */
export function podState(record: PodRecord, pod: Pod, wish: Wish, isAcked: boolean): PodState {
  const annotation = redirectionOf(pod);
  if (wish.kind !== "enrol")
    return record.rules === "in" || record.meshed !== null || annotation !== null
      ? "not as wanted"
      : "outside";
  const isIn = record.rules === "in" && isAcked && annotation === "enabled";
  return isIn && record.lastError === null ? "in the mesh" : "not as wanted";
}
