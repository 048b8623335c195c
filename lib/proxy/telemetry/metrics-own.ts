// The metric families that Istio does not have: denials, tunnels, handshakes, events. Names begin with ambit_.
import { bare, gauge, histogram, labelsOf, mergeBy, type Family } from "#lib/obs/metric-family.ts";
import { HANDSHAKE_BUCKETS } from "./handshake-times.ts";
import type { HandshakeSeries, LabelledCount, MetricsSnapshot } from "./snapshot.ts";
import { DENIAL_LABELS } from "./traffic-labels.ts";

const HANDSHAKE_SECONDS = "ambit_tunnel_handshake_seconds";

export function own(workers: readonly MetricsSnapshot[]): Family[] {
  const total = (of: (worker: MetricsSnapshot) => number): number =>
    workers.reduce((sum, worker) => sum + of(worker), 0);
  return [
    {
      name: "ambit_policy_denials_total",
      help: "Connections refused or closed by authorization policy",
      type: "counter",
      samples: mergeCounts(workers.flatMap((worker) => worker.denials)).map(
        ({ labels, count }) => ({ labels: labelsOf(DENIAL_LABELS, labels), value: count }),
      ),
    },
    gauge("ambit_tunnel_active", "HBONE connections that are open", [
      bare(total((worker) => worker.tunnelsActive)),
    ]),
    {
      name: HANDSHAKE_SECONDS,
      help: "Time from the TCP connection of a tunnel to the end of its TLS handshake",
      type: "histogram",
      samples: mergeHandshakes(workers).flatMap(({ role, outcome, counts, sumSeconds }) =>
        histogram(HANDSHAKE_SECONDS, HANDSHAKE_BUCKETS, counts, sumSeconds, { role, outcome }),
      ),
    },
    {
      name: "ambit_event_lost_total",
      help: "Events overwritten before anybody read them",
      type: "counter",
      samples: [bare(total((worker) => worker.eventsLost))],
    },
  ];
}

/** One series per label set, whichever workers counted. */
export function mergeCounts(counts: readonly LabelledCount[]): LabelledCount[] {
  return mergeBy(
    counts,
    ({ labels }) => labels.join("\0"),
    (a, b) => ({ labels: a.labels, count: a.count + b.count }),
  );
}

function mergeHandshakes(workers: readonly MetricsSnapshot[]): HandshakeSeries[] {
  return mergeBy(
    workers.flatMap((worker) => worker.handshakes),
    ({ role, outcome }) => `${role} ${outcome}`,
    (a, b) => ({
      ...a,
      counts: a.counts.map((count, i) => count + (b.counts[i] ?? 0)),
      sumSeconds: a.sumSeconds + b.sumSeconds,
    }),
  );
}
