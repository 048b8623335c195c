// The metric series of the node proxy, under Istio's names and in Istio's label order; our own are in
// metrics-own.ts. Values come from the workers and counters when scraped; prom-client writes the text.
import { DURATION_BUCKETS, type DnsSeries } from "./dns/dns-counters.ts";
import {
  bare,
  gauge,
  histogram,
  labelsOf,
  mergeBy,
  type Family,
  type Labels,
} from "./metric-family.ts";
import { mergeCounts, own } from "./metrics-own.ts";
import type { MetricsSnapshot, TrafficSeries } from "./proxy/messages.ts";
import { SOURCE_LABELS, TRAFFIC_LABELS } from "./proxy/traffic-labels.ts";

/** What one scrape sees. */
export interface MetricsInput {
  readonly workers: readonly MetricsSnapshot[];
  readonly dns: Iterable<DnsSeries>;
  readonly xds: XdsCounters;
  readonly pods: {
    readonly active: number;
    readonly pending: number;
    readonly started: number;
    readonly stopped: number;
  };
  readonly build: { readonly tag: string };
  readonly files: { readonly open: number; readonly max: number };
}

/** Counted as it happens by the xDS client. */
export class XdsCounters {
  readonly terminations = new Map<string, number>();
  readonly messages = new Map<string, number>();
  readonly bytes = new Map<string, number>();

  terminated(reason: string): void {
    add(this.terminations, reason, 1);
  }

  received(typeUrl: string, bytes: number): void {
    add(this.messages, typeUrl, 1);
    add(this.bytes, typeUrl, bytes);
  }
}

const DNS_SECONDS = "istio_dns_upstream_request_duration_seconds";
const FLAGS_AT = TRAFFIC_LABELS.indexOf("response_flags");
export function collect(input: MetricsInput): Family[] {
  return [
    ...traffic(input.workers),
    ...sockets(input.workers),
    ...dns(input),
    ...xds(input.xds),
    ...pods(input.pods),
    gauge("istio_build", "Istio component build info", [
      { labels: { component: "ztunnel", tag: input.build.tag }, value: 1 },
    ]),
    gauge("process_open_fds", "Number of open file descriptors", [bare(input.files.open)]),
    gauge("process_max_fds", "Maximum number of open file descriptors", [bare(input.files.max)]),
    ...own(input.workers),
  ];
}

function traffic(workers: readonly MetricsSnapshot[]): Family[] {
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

function sockets(workers: readonly MetricsSnapshot[]): Family[] {
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

function dns(input: MetricsInput): Family[] {
  const all = [...input.dns].map((series) => ({
    series,
    labels: {
      request_query_type: series.queryType,
      request_protocol: series.transport,
      source_canonical_service: series.canonicalService,
      source_canonical_revision: series.canonicalRevision,
    },
  }));
  const counter = (name: string, help: string, value: (s: DnsSeries) => number): Family => ({
    name,
    help,
    type: "counter",
    samples: all.map(({ series, labels }) => ({ labels, value: value(series) })),
  });
  return [
    {
      name: "istio_on_demand_dns_total",
      help: "Total number of requests that used on-demand DNS",
      type: "counter",
      samples: mergeCounts(input.workers.flatMap((worker) => worker.onDemandDns)).map(
        ({ labels, count }) => ({
          labels: labelsOf([...SOURCE_LABELS, "hostname"], labels),
          value: count,
        }),
      ),
    },
    counter("istio_dns_requests_total", "Total number of DNS requests", (s) => s.requests),
    counter(
      "istio_dns_upstream_requests_total",
      "Total number of DNS requests forwarded to upstream",
      (s) => s.upstreamRequests,
    ),
    counter(
      "istio_dns_upstream_failures_total",
      "Total number of DNS requests that failed to be forwarded upstream",
      (s) => s.upstreamFailures,
    ),
    {
      name: DNS_SECONDS,
      help: "Total time in seconds Istio takes to get DNS response from upstream",
      type: "histogram",
      samples: all
        .filter(({ series }) => series.upstreamRequests > 0)
        .flatMap(({ series: { durations, durationSum }, labels }) =>
          histogram(DNS_SECONDS, DURATION_BUCKETS, durations, durationSum, labels),
        ),
    },
  ];
}

function xds(counters: XdsCounters): Family[] {
  const counter = (
    name: string,
    help: string,
    label: string,
    values: ReadonlyMap<string, number>,
  ): Family => ({
    name,
    help,
    type: "counter",
    samples: [...values].map(([key, value]) => ({ labels: { [label]: key }, value })),
  });
  return [
    counter(
      "istio_xds_connection_terminations_total",
      "The total number of completed connections to xds server",
      "reason",
      counters.terminations,
    ),
    counter(
      "istio_xds_message_total",
      "Total number of messages received",
      "url",
      counters.messages,
    ),
    counter(
      "istio_xds_message_bytes_total",
      "Total number of bytes received",
      "url",
      counters.bytes,
    ),
  ];
}

/** Without the istio_ prefix, as Istio has them. */
function pods(input: MetricsInput["pods"]): Family[] {
  const counter = (name: string, help: string, value: number): Family => ({
    name,
    help,
    type: "counter",
    samples: [bare(value)],
  });
  return [
    gauge(
      "workload_manager_active_proxy_count",
      "The total number current workloads with active proxies",
      [bare(input.active)],
    ),
    gauge(
      "workload_manager_pending_proxy_count",
      "The total number current workloads with pending proxies",
      [bare(input.pending)],
    ),
    counter(
      "workload_manager_proxies_started_total",
      "The total number of proxies that were started",
      input.started,
    ),
    counter(
      "workload_manager_proxies_stopped_total",
      "The total number of proxies that were stopped",
      input.stopped,
    ),
  ];
}

function add(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
