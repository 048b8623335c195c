// Waits until waypoints are programmed, and says how each stands.
import { systemClock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type Gateway } from "#lib/kube/objects.ts";
import { conditionOf } from "../kube/pod-state.ts";
import { isProgrammed, WAYPOINT_CLASS } from "../kube/waypoints.ts";

const POLL_MS = 500;

export interface WaypointStatus {
  readonly namespace: string;
  readonly name: string;
  readonly status: "True" | "False" | "Unknown";
  readonly type: string;
  readonly reason: string;
  readonly message: string;
}

export function waypointStatus(gateway: Gateway): WaypointStatus {
  const { name, namespace = "" } = gateway.metadata;
  const conditions = gateway.status?.conditions;
  const accepted = conditionOf(conditions, "Accepted");
  const programmed = conditionOf(conditions, "Programmed");
  const telling = accepted?.status === "False" ? accepted : (programmed ?? accepted);
  return {
    namespace,
    name,
    status: telling?.status ?? "Unknown",
    type: telling?.type ?? "Programmed",
    reason: telling?.reason ?? "Pending",
    message: telling?.message ?? "Waiting for controller",
  };
}

/** Gateways of the waypoint class in `namespace` (`null`: everywhere), or those named. */
export async function findWaypoints(
  cluster: Cluster,
  namespace: string | null,
  names: readonly string[],
): Promise<readonly Gateway[]> {
  const all = await cluster.list(RESOURCES.gateways, namespace === null ? {} : { namespace });
  return all
    .filter((g) =>
      names.length === 0
        ? g.spec?.gatewayClassName === WAYPOINT_CLASS
        : names.includes(g.metadata.name),
    )
    .toSorted((a, b) => key(a).localeCompare(key(b)));
}

/** The last look at them: all programmed, or as they are when time is up. */
export async function waitProgrammed(
  look: () => Promise<readonly Gateway[]>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<readonly Gateway[]> {
  const deadline = systemClock.now() + timeoutMs;
  for (;;) {
    const gateways = await look();
    if (gateways.every(isProgrammed) || systemClock.now() >= deadline) return gateways;
    await systemClock.sleep(POLL_MS, signal);
    signal.throwIfAborted();
  }
}

function key({ metadata }: Gateway): string {
  return `${metadata.namespace}/${metadata.name}`;
}
