// What our figures must reach: as a share of the yardstick in the same rounds, or as such.

export type Bar =
  | { readonly kind: "ratio"; readonly atLeast: number }
  | { readonly kind: "ratio"; readonly atMost: number }
  | { readonly kind: "absolute"; readonly atMost: number };

/** By figure, for the path that is ours (absolute bars: for any but the yardstick's). */
export type Bars = readonly (readonly [figure: RegExp, bar: Bar])[];

export const DATA_PLANE_BARS: Bars = [
  [/^throughput, (1 connection|8 connections)$/, { kind: "ratio", atLeast: 0.9 }],
  [/^throughput, (1 connection|8 connections): CPU/, { kind: "ratio", atMost: 1.15 }],
  [/^HTTP 1 KiB, (8|64) connections$/, { kind: "ratio", atLeast: 0.85 }],
  [/^HTTP 1 KiB, (8|64) connections: CPU/, { kind: "ratio", atMost: 1.25 }],
  [/^(HTTP 1 KiB, 1 connection|echo of .*): p50$/, { kind: "ratio", atMost: 1.15 }],
  [/^new connections, (8|64) in flight$/, { kind: "ratio", atLeast: 1 }],
  [/^idle ztunnel: private memory$/, { kind: "absolute", atMost: 30 }],
  [/^(4000|10000) idle connections: private memory each/, { kind: "absolute", atMost: 2.5 }],
  [/^10000 workloads: private memory more$/, { kind: "absolute", atMost: 40 }],
  [/^100000 workloads: private memory more$/, { kind: "absolute", atMost: 250 }],
  [/^100000 workloads: time to ingest$/, { kind: "absolute", atMost: 5 }],
];

export function barOf(figure: string, bars: Bars): Bar | null {
  return bars.find(([pattern]) => pattern.test(figure))?.[1] ?? null;
}

export interface Judgement {
  readonly bar: string;
  readonly measured: number;
  readonly passes: boolean;
}

/** Null where a bar is relative and there is nothing to compare with. */
export function judge(bar: Bar, ours: number, yardstick: number | null): Judgement | null {
  if (bar.kind === "ratio" && yardstick === null) return null;
  const measured = bar.kind === "ratio" ? ours / (yardstick ?? NaN) : ours;
  const short = (limit: number): number => Number(limit.toPrecision(3));
  return "atLeast" in bar
    ? { bar: `≥ ${short(bar.atLeast)}`, measured, passes: measured >= bar.atLeast }
    : { bar: `≤ ${short(bar.atMost)}`, measured, passes: measured <= bar.atMost };
}
