// Who is still in the mesh: namespaces and pods that ask for it, and pods that are captured.
import { systemClock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { MODE_LABEL, REDIRECTION_ANNOTATION } from "../kube/enrollment.ts";
import { FIELD_MANAGER } from "../kube/open-cluster.ts";
import { formatDuration } from "../render/units.ts";

export interface Enrolled {
  readonly namespaces: readonly string[];
  /** Labelled by themselves; `namespace/name`. */
  readonly pods: readonly string[];
  /** Captured, whoever asked; `namespace/name`. */
  readonly captured: readonly string[];
}

export async function findEnrolled(cluster: Cluster): Promise<Enrolled> {
  const [namespaces, pods] = await Promise.all([
    cluster.list(RESOURCES.namespaces),
    cluster.list(RESOURCES.pods),
  ]);
  const key = (p: (typeof pods)[number]): string => `${p.metadata.namespace}/${p.metadata.name}`;
  return {
    namespaces: namespaces
      .filter((n) => n.metadata.labels?.[MODE_LABEL] === "ambient")
      .map((n) => n.metadata.name),
    pods: pods.filter((p) => p.metadata.labels?.[MODE_LABEL] === "ambient").map(key),
    captured: pods
      .filter((p) => p.metadata.annotations?.[REDIRECTION_ANNOTATION] !== undefined)
      .map(key),
  };
}

/** Takes the labels away. */
export async function unenroll(cluster: Cluster, { namespaces, pods }: Enrolled): Promise<void> {
  const patch = { metadata: { labels: { [MODE_LABEL]: null } } };
  const options = { fieldManager: FIELD_MANAGER };
  for (const n of namespaces) await cluster.patch(RESOURCES.namespaces, null, n, patch, options);
  for (const p of pods) {
    const [namespace = "", name = ""] = p.split("/", 2);
    await cluster.patch(RESOURCES.pods, namespace, name, patch, options);
  }
}

const POLL_MS = 500;
const SHOWN = 5;

/** @throws {CliError} TIMEOUT naming the pods that are not let go */
export async function waitReleased(
  cluster: Cluster,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = systemClock.now() + timeoutMs;
  for (;;) {
    const { captured } = await findEnrolled(cluster);
    if (captured.length === 0) return;
    if (systemClock.now() > deadline)
      throw new CliError(
        "TIMEOUT",
        `${captured.length} pod(s) not released within ${formatDuration(timeoutMs)}: ${captured.slice(0, SHOWN).join(", ")}`,
        [
          "is the CNI agent of their node running? ambit check --only C20",
          "running ambit uninstall again goes on from here; --force does not wait for them",
        ],
      );
    await systemClock.sleep(POLL_MS, signal);
    signal.throwIfAborted();
  }
}
