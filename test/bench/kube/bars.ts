// What the mesh on Kubernetes must reach, and what Istio's istiod did on such a machine.
import type { Bars } from "../bars.ts";
import type { Layout } from "../report.ts";
import type { Results } from "../results.ts";

export const OURS = "ambit";
export const DIRECT = "direct";
export const ISTIO = "istio";

const ISTIO_PODS = 10_000;
const BARS: Bars = [
  [/^istiod, \d+ pods: time to ready$/, { kind: "ratio", atMost: 1 }],
  [/^istiod, \d+ pods: private memory( with 100 streams)?$/, { kind: "ratio", atMost: 1 }],
  [/^istiod, \d+ pods: CPU of complete answers to 100$/, { kind: "ratio", atMost: 1 / 3 }],
  [/^istiod, 10000 pods: changed pod to the last of 100$/, { kind: "absolute", atMost: 40 }],
  [/^requests at rest: all but watches and locks$/, { kind: "absolute", atMost: 0 }],
];

export const ON_KUBERNETES: Layout = {
  columns: [DIRECT, ISTIO, OURS],
  ours: OURS,
  against: [DIRECT, ISTIO],
  yardstick: ISTIO,
  bars: BARS,
};

/** 10 000 pods in 100 services, a real API server, two cores: measured once, not in this run. */
const ISTIO_FIGURES = [
  ["time to ready", "s", 5.3],
  ["CPU until ready", "s", 4.1],
  ["private memory", "MB", 295],
  ["complete answer to 1", "s", 0.58],
  ["bytes of a complete answer", "MB", 1.69],
  ["CPU of complete answers to 100", "s", 6.8],
  ["private memory with 100 streams", "MB", 445],
  ["changed pod to the first of 100", "ms", 115],
  ["changed pod to the last of 100", "ms", 151],
  ["bytes for each changed pod and stream, 100 streams", "B", 156],
] as const;

export function addIstioFigures(results: Results, pods: number): void {
  if (pods !== ISTIO_PODS) return;
  for (const [figure, unit, value] of ISTIO_FIGURES)
    results.add(`istiod, ${pods} pods: ${figure}`, ISTIO, unit, value);
  results.note('"istio" is Istio\'s istiod as measured once on such a machine, not in this run');
}
