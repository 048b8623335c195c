// Stopping: an upgrade or a reboot keeps the plugin where it is, so that pods of the mesh wait for the
// next agent; an uninstallation must leave no trace. The agent's own DaemonSet tells which one it is.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES, type Node, type PodController } from "#lib/kube/objects.ts";
import { explain } from "../agent/errors.ts";
import { admitsNode } from "./node-affinity.ts";

export type ExitDecision = {
  readonly kind: "keep" | "clean";
  readonly why: string;
};

export interface ExitOptions {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly daemonSet: string;
  readonly nodeName: string;
  /** `AMBIENT_DISABLE_SAFE_UPGRADE`. */
  readonly cleansAlways: boolean;
  readonly clock: Clock;
}

const ATTEMPTS = 3;
const PAUSE_MS = 1_000;
const CALL_TIMEOUT_MS = 3_000;

/** Never throws. */
export async function decideExit(o: ExitOptions): Promise<ExitDecision> {
  if (o.cleansAlways) return { kind: "clean", why: "AMBIENT_DISABLE_SAFE_UPGRADE is set" };
  for (let attempt = 1; ; attempt++)
    try {
      const [daemonSet, node] = await within(
        Promise.all([
          o.cluster.get(RESOURCES.daemonSets, o.namespace, o.daemonSet),
          o.cluster.get(RESOURCES.nodes, null, o.nodeName),
        ]),
        o.clock,
      );
      return decideBy(daemonSet, node);
    } catch (error) {
      if (isRefusal(error)) return { kind: "clean", why: `our rights are gone: ${explain(error)}` };
      // a removal comes through the API server; a node that shuts down loses it
      if (attempt === ATTEMPTS)
        return { kind: "keep", why: `the cluster does not answer: ${explain(error)}` };
      await o.clock.sleep(PAUSE_MS);
    }
}

/** @param node  `null` when the cluster has forgotten it */
export function decideBy(daemonSet: PodController | null, node: Node | null): ExitDecision {
  if (daemonSet === null) return { kind: "clean", why: "the DaemonSet is gone" };
  if (daemonSet.metadata.deletionTimestamp !== undefined)
    return { kind: "clean", why: "the DaemonSet is being deleted" };
  if (node !== null && !admitsNode(daemonSet.spec?.template?.spec ?? {}, node))
    return { kind: "clean", why: "the DaemonSet no longer wants this node" };
  return { kind: "keep", why: "the DaemonSet will start another agent here" };
}

function isRefusal(error: unknown): boolean {
  return (
    error instanceof KubeError &&
    (["UNAUTHORIZED", "FORBIDDEN"] as readonly string[]).includes(error.code)
  );
}

async function within<T>(work: Promise<T>, clock: Clock): Promise<T> {
  const enough = new AbortController();
  const late = clock.sleep(CALL_TIMEOUT_MS, enough.signal).then((): never => {
    throw new Error(`no answer within ${CALL_TIMEOUT_MS} ms`);
  });
  late.catch(() => undefined);
  work.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    enough.abort();
  }
}
