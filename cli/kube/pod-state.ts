// What a pod is doing, in kubectl's words: ready or not, how many containers, and why it waits.
import type { Condition, Pod } from "#lib/kube/objects.ts";

/** Fields of `status.containerStatuses` that say why a pod is not ready. */
export interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly restartCount?: number;
  readonly image?: string;
  /** As the node resolved it; empty before the image is there. */
  readonly imageID?: string;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: {
      readonly reason?: string;
      readonly message?: string;
      readonly exitCode?: number;
    };
  };
  readonly lastState?: ContainerStatus["state"];
}

export function isReady(pod: Pod): boolean {
  return conditionOf(pod.status?.conditions, "Ready")?.status === "True";
}

export function conditionOf(
  conditions: readonly Condition[] | undefined,
  type: string,
): Condition | undefined {
  return conditions?.find((c) => c.type === type);
}

export function containerStatuses(pod: Pod): readonly ContainerStatus[] {
  const status = pod.status as
    | {
        readonly containerStatuses?: readonly ContainerStatus[];
        readonly initContainerStatuses?: readonly ContainerStatus[];
      }
    | undefined;
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
}

export interface PodProblem {
  readonly container: string | null;
  readonly reason: string;
  /** One line, perhaps empty. */
  readonly message: string;
}

/** Why `pod` is not ready; `null` when it is. */
export function podProblem(pod: Pod): PodProblem | null {
  if (isReady(pod) && pod.metadata.deletionTimestamp === undefined) return null;
  for (const c of containerStatuses(pod)) {
    const waiting = c.state?.waiting;
    if (waiting?.reason !== undefined && !PASSING.has(waiting.reason))
      return { container: c.name, reason: waiting.reason, message: firstLine(waiting.message) };
    const ended = c.state?.terminated ?? (c.ready === true ? undefined : c.lastState?.terminated);
    if (ended !== undefined && ended.exitCode !== 0)
      return {
        container: c.name,
        reason: `${ended.reason ?? "Ended"} (exit ${ended.exitCode})`,
        message: firstLine(ended.message),
      };
  }
  const scheduled = conditionOf(pod.status?.conditions, "PodScheduled");
  if (scheduled?.status === "False")
    return {
      container: null,
      reason: scheduled.reason ?? "Unschedulable",
      message: firstLine(scheduled.message),
    };
  const unready = containerStatuses(pod).find((c) => c.ready !== true && !isDone(c));
  const reason =
    unready?.state?.waiting?.reason ?? (unready === undefined ? "Pending" : "NotReady");
  return { container: unready?.name ?? null, reason, message: firstLine(pod.status?.message) };
}

/** Reasons every pod goes through. */
const PASSING = new Set(["ContainerCreating", "PodInitializing"]);

function isDone(c: ContainerStatus): boolean {
  return c.state?.terminated?.exitCode === 0;
}

function firstLine(text: string | undefined): string {
  return (text ?? "").split("\n", 1)[0] ?? "";
}
