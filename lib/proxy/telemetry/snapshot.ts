// What a data plane has counted, as plain data: it crosses threads, and is added up for a scrape.
import type { HandshakeOutcome } from "#lib/hbone/tunnel.ts";

/** Counters of one label set, since the worker started. `labels` are the values in Istio's order (metrics.ts). */
export interface TrafficSeries {
  readonly labels: readonly string[];
  readonly opened: number;
  readonly closed: number;
  readonly failed: number;
  /** client → server. */
  readonly received: number;
  readonly sent: number;
}

/** TLS handshakes of one kind, since the worker started. */
export interface HandshakeSeries {
  readonly role: "client" | "server";
  readonly outcome: HandshakeOutcome;
  /** By bucket of `HANDSHAKE_BUCKETS`, not cumulated; the last entry is beyond all bounds. */
  readonly counts: number[];
  readonly sumSeconds: number;
}

/** Events counted under labels that only this series has. */
export interface LabelledCount {
  readonly labels: readonly string[];
  readonly count: number;
}

export interface MetricsSnapshot {
  readonly traffic: readonly TrafficSeries[];
  readonly socketsOpen: { readonly source: number; readonly destination: number };
  readonly denials: readonly LabelledCount[];
  /** Lookups of destinations known by name only: the source's labels, then the name. */
  readonly onDemandDns: readonly LabelledCount[];
  readonly handshakes: readonly HandshakeSeries[];
  readonly tunnelsActive: number;
  readonly eventsLost: number;
}
