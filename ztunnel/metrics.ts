// The metric series of the node proxy, under Istio's names and in Istio's label order; our own are in
// lib/proxy/telemetry/metrics-own.ts. Values come from the workers and counters when scraped; prom-client writes the text.
import { bare, gauge, histogram, labelsOf, type Family } from "#lib/obs/metric-family.ts";
import { processFamilies } from "#lib/obs/process-metrics.ts";
import { mergeCounts, own } from "#lib/proxy/telemetry/metrics-own.ts";
import type { MetricsSnapshot } from "#lib/proxy/telemetry/snapshot.ts";
import { SOURCE_LABELS } from "#lib/proxy/telemetry/traffic-labels.ts";
import { socketFamilies, trafficFamilies } from "#lib/proxy/telemetry/traffic-metrics.ts";
import { xdsFamilies, type XdsCounters } from "#lib/xds/xds-counters.ts";
import { DURATION_BUCKETS, type DnsSeries } from "./dns/dns-counters.ts";

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
}

const DNS_SECONDS = "istio_dns_upstream_request_duration_seconds";

export function collect(input: MetricsInput): Family[] {
  return [
    ...trafficFamilies(input.workers),
    ...socketFamilies(input.workers),
    ...dns(input),
    ...xdsFamilies(input.xds),
    ...pods(input.pods),
    ...processFamilies("ztunnel", input.build.tag),
    ...own(input.workers),
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
