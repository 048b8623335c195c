// What a worker tells when asked: live connections, Istio's connection lists, metrics.
import type { TunnelView } from "#lib/model/tunnel.ts";
import type { MetricsSnapshot } from "#lib/proxy/telemetry/snapshot.ts";
import type { Telemetry } from "#lib/proxy/telemetry/telemetry.ts";
import { tunnelViews, type Live } from "#lib/proxy/telemetry/live.ts";
import type { PodConnections } from "./messages.ts";
import type { Pod } from "./pod.ts";

export function tunnelsOf(pods: readonly Pod[], node: string, nowMs: number): TunnelView[] {
  return tunnelViews(allLive(pods), node, nowMs);
}

export function connectionsOf(pods: readonly Pod[]): PodConnections[] {
  return pods.map((pod) => {
    const all = [...pod.live].flatMap(({ connection }) =>
      connection === null ? [] : [connection],
    );
    return {
      uid: pod.info.uid,
      inbound: all.filter((c) => c.init.direction === "inbound").map((c) => c.view()),
      outbound: all.filter((c) => c.init.direction === "outbound").map((c) => c.view()),
    };
  });
}

export function metricsOf(pods: readonly Pod[], telemetry: Telemetry): MetricsSnapshot {
  for (const live of allLive(pods)) live.connection?.count();
  return telemetry.snapshot(
    pods.reduce((sum, pod) => sum + pod.pool.size + pod.inboundTunnels.size, 0),
  );
}

function* allLive(pods: readonly Pod[]): Generator<Live> {
  for (const pod of pods) yield* pod.live;
}
