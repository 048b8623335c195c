// Every metric series of the waypoint, under Istio's names; our own begin with ambit_.
import { own } from "#lib/proxy/telemetry/metrics-own.ts";
import type { MetricsSnapshot } from "#lib/proxy/telemetry/snapshot.ts";
import { socketFamilies, trafficFamilies } from "#lib/proxy/telemetry/traffic-metrics.ts";
import type { Family } from "#lib/obs/metric-family.ts";
import { processFamilies } from "#lib/obs/process-metrics.ts";
import { xdsFamilies, type XdsCounters } from "#lib/xds/xds-counters.ts";
import type { WaypointContext } from "./context.ts";

/** What one scrape sees. @param tunnels  HBONE connections accepted and open */
export function collect(
  context: WaypointContext,
  xds: XdsCounters,
  tunnels: number,
): readonly Family[] {
  const counted = [snapshot(context, tunnels)];
  return [
    ...trafficFamilies(counted),
    ...socketFamilies(counted),
    ...xdsFamilies(xds),
    ...processFamilies("proxy", context.config.istioVersion),
    ...own(counted),
  ];
}

function snapshot({ live, telemetry, pool }: WaypointContext, tunnels: number): MetricsSnapshot {
  for (const { connection } of live) connection?.count();
  return telemetry.snapshot(pool.size + tunnels);
}
