// Waits for what a stage started: n of m ready, told as it changes; and why not, pod by pod, when time is up.
import type { Clock } from "#lib/base/clock.ts";
import type { JsonObject } from "#lib/kube/json.ts";
import { compileLabelSelector } from "#lib/kube/labels.ts";
import { RESOURCES, type Pod, type PodController } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Kube } from "../kube/connect.ts";
import { isReady, podProblem } from "../kube/pod-state.ts";
import { metadataOf, textAt } from "../manifest/object-id.ts";
import { formatDuration } from "../render/units.ts";
import { nodeTrouble, refusedPods } from "./obstacles.ts";

const POLL_MS = 500;

export interface Readiness {
  readonly ready: number;
  readonly desired: number;
  readonly isDone: boolean;
}

export interface RolloutOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Called whenever the numbers change. */
  readonly onProgress: (now: Readiness) => void;
}

/** What of `objects` runs pods. */
export function workloadsOf(objects: readonly JsonObject[]): readonly JsonObject[] {
  return objects.filter((o) => o["kind"] === "Deployment" || o["kind"] === "DaemonSet");
}

/** @throws {CliError} TIMEOUT naming node, pod, container, reason, last words and the next command */
export async function waitRollout(
  kube: Kube,
  objects: readonly JsonObject[],
  { timeoutMs, signal, clock, onProgress }: RolloutOptions,
): Promise<Readiness> {
  const started = clock.now();
  const workloads = workloadsOf(objects);
  let shown = "";
  for (;;) {
    const controllers = await Promise.all(workloads.map((o) => controllerOf(kube, o)));
    const now = sum(controllers.map(readinessOf));
    if (`${now.ready}/${now.desired}` !== shown) onProgress(now);
    shown = `${now.ready}/${now.desired}`;
    if (now.isDone) return now;
    if (clock.now() - started > timeoutMs)
      throw await notReady(kube, controllers, now, clock.now() - started, signal);
    await clock.sleep(POLL_MS, signal);
    signal.throwIfAborted();
  }
}

export function readinessOf(c: PodController | null): Readiness {
  if (c === null) return { ready: 0, desired: 1, isDone: false };
  const status = (c.status ?? {}) as NonNullable<PodController["status"]> & {
    readonly updatedReplicas?: number;
    readonly updatedNumberScheduled?: number;
    readonly availableReplicas?: number;
  };
  const isSeen = (status.observedGeneration ?? 0) >= (c.metadata.generation ?? 1);
  if (c.kind === "DaemonSet") {
    const desired = status.desiredNumberScheduled ?? 0;
    const ready = status.numberReady ?? 0;
    const isUpdated = (status.updatedNumberScheduled ?? 0) >= desired;
    return { ready, desired, isDone: isSeen && isUpdated && ready >= desired };
  }
  const desired = c.spec?.replicas ?? 1;
  const ready = status.readyReplicas ?? 0;
  const isUpdated = (status.updatedReplicas ?? 0) >= desired && (status.replicas ?? 0) <= desired;
  return { ready, desired, isDone: isSeen && isUpdated && ready >= desired };
}

async function controllerOf(kube: Kube, o: JsonObject): Promise<PodController | null> {
  const resource = o["kind"] === "DaemonSet" ? RESOURCES.daemonSets : RESOURCES.deployments;
  const metadata = metadataOf(o);
  return await kube.cluster.get(resource, textAt(metadata, "namespace"), textAt(metadata, "name"));
}

function sum(all: readonly Readiness[]): Readiness {
  return {
    ready: all.reduce((n, r) => n + r.ready, 0),
    desired: all.reduce((n, r) => n + r.desired, 0),
    isDone: all.every((r) => r.isDone),
  };
}

async function notReady(
  kube: Kube,
  controllers: readonly (PodController | null)[],
  { ready, desired }: Readiness,
  afterMs: number,
  signal: AbortSignal,
): Promise<CliError> {
  const hints: string[] = [];
  const names: string[] = [];
  for (const c of controllers) {
    if (c === null || readinessOf(c).isDone) continue;
    names.push(`${c.kind.toLowerCase()}/${c.metadata.name}`);
    const pods = await podsOf(kube, c);
    if (pods.length < readinessOf(c).desired || pods.every(isReady))
      hints.push(...(await refusedPods(kube, c)));
    for (const pod of pods) {
      if (hints.length >= MAX_HINTS) break;
      hints.push(...(await podHints(kube, pod, signal)));
    }
  }
  hints.push("ambit check says what else is wrong; running ambit install again goes on from here");
  return new CliError(
    "TIMEOUT",
    `${names.join(", ")} not ready after ${formatDuration(afterMs)}: ${ready} of ${desired}${ready < desired ? "" : " ready, but not all are new"}`,
    hints,
  );
}

const MAX_HINTS = 12;

export async function podsOf(kube: Kube, c: PodController): Promise<readonly Pod[]> {
  const matches = compileLabelSelector(c.spec?.selector ?? {});
  const { namespace = "" } = c.metadata;
  const pods = await kube.cluster.list(RESOURCES.pods, { namespace });
  return pods.filter((p) => matches(p.metadata.labels));
}

/** Lines about one pod that is not ready: where, why, its last words, and what to run. */
export async function podHints(kube: Kube, pod: Pod, signal: AbortSignal): Promise<string[]> {
  const problem = podProblem(pod);
  if (problem === null && isReady(pod)) return [];
  const { name, namespace = "" } = pod.metadata;
  const node = pod.spec?.nodeName ?? "no node yet";
  const container = problem?.container == null ? "" : `, container ${problem.container}`;
  const message = problem === null || problem.message === "" ? "" : `: ${problem.message}`;
  const lines = [
    `node ${node}: pod ${namespace}/${name}${container}: ${problem?.reason ?? "not ready"}${message}`,
  ];
  const last =
    problem?.container == null ? "" : await lastLogLine(kube, pod, problem.container, signal);
  if (last !== "") lines.push(`its last words: ${last}`);
  const trouble = await nodeTrouble(kube, pod.spec?.nodeName);
  if (trouble !== "") lines.push(trouble);
  lines.push(`kubectl -n ${namespace} describe pod ${name}`);
  return lines;
}

/** Empty where there are none: a container that never ran has no log. */
export async function lastLogLine(
  kube: Kube,
  { metadata }: Pod,
  container: string,
  signal: AbortSignal,
): Promise<string> {
  const { podLogs } = await import("#lib/kube/api-server/pod-logs.ts");
  const { name: pod, namespace = "" } = metadata;
  let last = "";
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LOG_TIMEOUT_MS)]);
    const options = { namespace, pod, container, tailLines: 1, signal: limit };
    for await (const line of podLogs(kube.server, options)) if (line.trim() !== "") last = line;
  } catch {
    return "";
  }
  return last.slice(0, 300);
}

const LOG_TIMEOUT_MS = 3_000;
