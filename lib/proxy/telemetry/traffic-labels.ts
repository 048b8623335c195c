// The label set of Istio's TCP metrics, in its order, and the series a connection counts into.
// Label values are strings made once per series; a connection holds a handle.
import type { Service } from "#lib/model/service.ts";
import { identityOf, type Workload } from "#lib/model/workload.ts";
import type { TrafficSeries } from "./snapshot.ts";

/** Of `istio_on_demand_dns_total`, in the order of `sourceLabels`; the host name follows. */
export const SOURCE_LABELS = [
  "source_workload",
  "source_canonical_service",
  "source_canonical_revision",
  "source_workload_namespace",
  "source_principal",
  "source_app",
  "source_version",
  "source_cluster",
] as const;

export const TRAFFIC_LABELS = [
  "reporter",
  ...SOURCE_LABELS,
  "destination_service",
  "destination_service_namespace",
  "destination_service_name",
  "destination_workload",
  "destination_canonical_service",
  "destination_canonical_revision",
  "destination_workload_namespace",
  "destination_principal",
  "destination_app",
  "destination_version",
  "destination_cluster",
  "request_protocol",
  "response_flags",
  "connection_security_policy",
  "source_region",
  "source_zone",
  "destination_region",
  "destination_zone",
] as const;

/** Of `ambit_policy_denials_total`, in the order of `Telemetry.denials`. */
export const DENIAL_LABELS = [
  "policy",
  "namespace",
  "reason",
  "source_principal",
  "destination_workload",
] as const;

const FLAG_AT = TRAFFIC_LABELS.indexOf("response_flags");
const UNKNOWN = "unknown";

/** One end as telemetry names it: a record, or what the peer's baggage said. */
export interface EndLabels {
  readonly workload: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  readonly namespace: string;
  readonly app: string;
  readonly version: string;
  readonly cluster: string;
  readonly region: string;
  readonly zone: string;
}

function endOf(w: Workload): EndLabels {
  return {
    workload: w.workloadName,
    canonicalService: w.canonicalName,
    canonicalRevision: w.canonicalRevision,
    namespace: w.namespace,
    app: w.canonicalName,
    version: w.canonicalRevision,
    cluster: w.clusterId,
    region: w.locality.region,
    zone: w.locality.zone,
  };
}

/** A local workload as the source of something: its own identity needs no mutual TLS. */
export function sourceLabels(source: Workload): string[] {
  const end = endOf(source);
  return [
    end.workload,
    end.canonicalService,
    end.canonicalRevision,
    end.namespace,
    identityOf(source),
    end.app,
    end.version,
    end.cluster,
  ].map((value) => value || UNKNOWN);
}

/** What all connections of one kind between two ends share. */
export interface SeriesKey {
  readonly reporter: "source" | "destination" | "waypoint";
  readonly source: Workload | EndLabels | null;
  /** From mutual TLS only. */
  readonly sourceIdentity: string | null;
  readonly destination: Workload | null;
  readonly service: Service | null;
  readonly isMutualTls: boolean;
}

/** Counters of one label set. Plain numbers: connections add to them when they close or when asked. */
export class Series {
  readonly key: SeriesKey;
  readonly labels: readonly string[];
  opened = 0;
  closed = 0;
  failed = 0;
  /** client → server. */
  received = 0;
  sent = 0;

  constructor(key: SeriesKey, labels: readonly string[]) {
    this.key = key;
    this.labels = labels;
  }

  snapshot(): TrafficSeries {
    const { labels, opened, closed, failed, received, sent } = this;
    return { labels, opened, closed, failed, received, sent };
  }
}

/** All series of a worker. Lookup goes by the identity of the records, so it builds no key text. */
export class TrafficTable {
  /** Series by destination record; entries vanish with replaced records, their counts stay in `#byLabels`. */
  readonly #near = new WeakMap<object, { readonly key: SeriesKey; readonly series: Series }[]>();
  readonly #byLabels = new Map<string, Series>();

  /** The series for `key`, made on first use. */
  seriesFor(key: SeriesKey): Series {
    const anchor = key.destination ?? key.source ?? this;
    let near = this.#near.get(anchor);
    if (near === undefined) {
      near = [];
      this.#near.set(anchor, near);
    }
    for (const entry of near) if (isSameKey(entry.key, key)) return entry.series;
    const series = this.#byText(key, "-");
    if (near.length < 64) near.push({ key, series });
    return series;
  }

  /** The series that counts connections which ended with `flag`. */
  withFlag(series: Series, flag: string): Series {
    return flag === "-" ? series : this.#byText(series.key, flag);
  }

  snapshot(): TrafficSeries[] {
    return Array.from(this.#byLabels.values(), (series) => series.snapshot());
  }

  #byText(key: SeriesKey, flag: string): Series {
    const labels = labelsOf(key, flag);
    const text = labels.join("\0");
    let series = this.#byLabels.get(text);
    if (series === undefined) {
      series = new Series(key, labels);
      this.#byLabels.set(text, series);
    }
    return series;
  }
}

function isSameKey(a: SeriesKey, b: SeriesKey): boolean {
  return (
    a.reporter === b.reporter &&
    a.source === b.source &&
    a.destination === b.destination &&
    a.service === b.service &&
    a.sourceIdentity === b.sourceIdentity &&
    a.isMutualTls === b.isMutualTls
  );
}

function labelsOf(key: SeriesKey, flag: string): string[] {
  const source = key.source === null ? null : "uid" in key.source ? endOf(key.source) : key.source;
  const destination = key.destination === null ? null : endOf(key.destination);
  const principal = key.destination === null ? "" : identityOf(key.destination);
  const labels = [
    key.reporter,
    source?.workload,
    source?.canonicalService,
    source?.canonicalRevision,
    source?.namespace,
    key.sourceIdentity,
    source?.app,
    source?.version,
    source?.cluster,
    key.service?.hostname,
    key.service?.namespace,
    key.service?.name,
    destination?.workload,
    destination?.canonicalService,
    destination?.canonicalRevision,
    destination?.namespace,
    principal,
    destination?.app,
    destination?.version,
    destination?.cluster,
    "tcp",
    flag,
    key.isMutualTls ? "mutual_tls" : UNKNOWN,
    source?.region,
    source?.zone,
    destination?.region,
    destination?.zone,
  ].map((value) => (value === undefined || value === null || value === "" ? UNKNOWN : value));
  labels[FLAG_AT] = flag;
  return labels;
}
