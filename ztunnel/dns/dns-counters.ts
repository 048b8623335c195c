// What the DNS proxies count, in all pods together; metrics.ts gives the series their names.
import type { Workload } from "#lib/model/workload.ts";
import type { Transport } from "./forwarder.ts";

/** Upper bounds in seconds, as Istio's ztunnel has them. */
export const DURATION_BUCKETS = [0.0005, 0.001, 0.01, 0.1, 1, 5] as const;

export interface DnsSeries {
  readonly queryType: string;
  readonly transport: Transport;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  requests: number;
  upstreamRequests: number;
  upstreamFailures: number;
  /** Durations up to each bound, not cumulated; the last entry is beyond all bounds. */
  readonly durations: number[];
  durationSum: number;
}

const TYPE_NAMES: Readonly<Record<number, string>> = {
  1: "a",
  2: "ns",
  5: "cname",
  6: "soa",
  12: "ptr",
  15: "mx",
  16: "txt",
  28: "aaaa",
  33: "srv",
  35: "naptr",
  43: "ds",
  48: "dnskey",
  64: "svcb",
  65: "https",
  255: "any",
};

/** The closed set of label values: types nobody uses fall together, or a client could invent 65,536 series. */
function typeName(type: number): string {
  return TYPE_NAMES[type] ?? "other";
}

export class DnsCounters {
  readonly #series = new Map<string, DnsSeries>();

  /** The handle one query counts into. */
  of(type: number, transport: Transport, client: Workload | null): DnsSeries {
    const queryType = typeName(type);
    const canonicalService = client?.canonicalName || "unknown";
    const canonicalRevision = client?.canonicalRevision || "unknown";
    const key = `${queryType}\0${transport}\0${canonicalService}\0${canonicalRevision}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      series = {
        queryType,
        transport,
        canonicalService,
        canonicalRevision,
        requests: 0,
        upstreamRequests: 0,
        upstreamFailures: 0,
        durations: Array.from({ length: DURATION_BUCKETS.length + 1 }, () => 0),
        durationSum: 0,
      };
      this.#series.set(key, series);
    }
    return series;
  }

  all(): Iterable<DnsSeries> {
    return this.#series.values();
  }
}

export function observeUpstream(series: DnsSeries, seconds: number, failed: boolean): void {
  series.upstreamRequests++;
  if (failed) series.upstreamFailures++;
  const at = DURATION_BUCKETS.findIndex((bound) => seconds <= bound);
  const slot = at < 0 ? DURATION_BUCKETS.length : at;
  series.durations[slot] = (series.durations[slot] ?? 0) + 1;
  series.durationSum += seconds;
}
