// What a worker tells when asked: live connections, Istio's connection lists, metrics.
import type { TunnelView } from "#lib/model/tunnel.ts";
import type { MetricsSnapshot, PodConnections } from "./messages.ts";
import type { Live, Pod } from "./pod.ts";
import type { Telemetry } from "./telemetry.ts";

/** Views of one answer; more are there, but no screen shows them. */
const MAX_VIEWS = 20_000;

export function tunnelsOf(pods: readonly Pod[], node: string, nowMs: number): TunnelView[] {
  const views: TunnelView[] = [];
  for (const live of allLive(pods)) {
    const { connection, tunnel } = live;
    if (connection === null) continue;
    const carrier =
      tunnel === null ? null : { id: `${node}-t${tunnel.id}`, streams: tunnel.streamCount };
    views.push(connection.tunnelView(node, nowMs, carrier));
    if (views.length === MAX_VIEWS) break;
  }
  return views;
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
  return {
    traffic: telemetry.traffic.snapshot(),
    socketsOpen: { ...telemetry.socketsOpen },
    denials: telemetry.denials.snapshot(),
    onDemandDns: telemetry.onDemandDns.snapshot(),
    handshakes: telemetry.handshakes.snapshot(),
    tunnelsActive: pods.reduce((sum, pod) => sum + pod.pool.size + pod.inboundTunnels.size, 0),
    eventsLost: telemetry.events.lost,
  };
}

function* allLive(pods: readonly Pod[]): Generator<Live> {
  for (const pod of pods) yield* pod.live;
}
