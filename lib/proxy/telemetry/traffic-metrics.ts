// Istio's TCP metrics from what data planes have counted, one series per label set.
import { gauge, labelsOf, mergeBy, type Family, type Labels } from "#lib/obs/metric-family.ts";
import type { MetricsSnapshot, TrafficSeries } from "./snapshot.ts";
import { TRAFFIC_LABELS } from "./traffic-labels.ts";

const FLAGS_AT = TRAFFIC_LABELS.indexOf("response_flags");

export function trafficFamilies(workers: readonly MetricsSnapshot[]): Family[] {
  const merged = mergeTraffic(workers).map((series) => ({ series, labels: trafficLabels(series) }));
  const counter = (
    name: string,
    help: string,
    value: (series: TrafficSeries) => number,
    has: (series: TrafficSeries) => boolean,
  ): Family => ({
    name,
    help,
    type: "counter",
    samples: merged
      .filter(({ series }) => has(series))
      .map(({ series, labels }) => ({ labels, value: value(series) })),
  });
  // A series with a flag counts ends only; what is live is counted under `-`.
  const isLive = (series: TrafficSeries): boolean => series.labels[FLAGS_AT] === "-";
  return [
    counter(
      "istio_tcp_connections_opened_total",
      "The total number of TCP connections opened",
      (s) => s.opened,
      isLive,
    ),
    counter(
      "istio_tcp_connections_closed_total",
      "The total number of TCP connections closed",
      (s) => s.closed,
      (s) => s.closed > 0,
    ),
    counter(
      "istio_tcp_connections_failed_total",
      "The total number of TCP connections failed",
      (s) => s.failed,
      (s) => s.failed > 0,
    ),
    counter(
      "istio_tcp_received_bytes_total",
      "The size of total bytes received during request in case of a TCP connection",
      (s) => s.received,
      isLive,
    ),
    counter(
      "istio_tcp_sent_bytes_total",
      "The size of total bytes sent during response in case of a TCP connection",
      (s) => s.sent,
      isLive,
    ),
  ];
}

/** One series per label set: a pod lives in one worker, but its peers' labels may come from several. */
function mergeTraffic(workers: readonly MetricsSnapshot[]): TrafficSeries[] {
  return mergeBy(
    workers.flatMap((worker) => worker.traffic),
    ({ labels }) => labels.join("\0"),
    addSeries,
  );
}

function addSeries(a: TrafficSeries, b: TrafficSeries): TrafficSeries {
  return {
    labels: a.labels,
    opened: a.opened + b.opened,
    closed: a.closed + b.closed,
    failed: a.failed + b.failed,
    received: a.received + b.received,
    sent: a.sent + b.sent,
  };
}

function trafficLabels(series: TrafficSeries): Labels {
  return labelsOf(TRAFFIC_LABELS, series.labels);
}

export function socketFamilies(workers: readonly MetricsSnapshot[]): Family[] {
  const sum = (of: "source" | "destination"): number =>
    workers.reduce((total, worker) => total + worker.socketsOpen[of], 0);
  return [
    gauge(
      "istio_tcp_sockets_open",
      "The number of sockets currently open",
      (["source", "destination"] as const).map((reporter) => ({
        labels: { reporter },
        value: sum(reporter),
      })),
    ),
  ];
}
