// What a metric family is made of, for metrics.ts and metrics-own.ts.

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** For the parts of a histogram. */
  readonly metricName?: string;
}

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: readonly Sample[];
}

export function gauge(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, help, type: "gauge", samples };
}

/** A sample without labels. */
export function bare(value: number): Sample {
  return { labels: {}, value };
}

export function labelsOf(names: readonly string[], values: readonly string[]): Labels {
  const labels: Record<string, string> = {};
  for (const [i, name] of names.entries()) labels[name] = values[i] ?? "unknown";
  return labels;
}

/** The samples of one histogram. @param counts by bucket, not cumulated; the last one is beyond all bounds */
export function histogram(
  name: string,
  bounds: readonly number[],
  counts: readonly number[],
  sum: number,
  labels: Labels,
): Sample[] {
  let below = 0;
  const buckets = [...bounds.map(boundText), "+Inf"].map((le, i): Sample => {
    below += counts[i] ?? 0;
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: below },
  ];
}

/** Adds up what several workers counted under the same key. */
export function mergeBy<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
  add: (a: T, b: T) => T,
): T[] {
  const sums = new Map<string, T>();
  for (const item of items) {
    const key = keyOf(item);
    const sum = sums.get(key);
    sums.set(key, sum === undefined ? item : add(sum, item));
  }
  return [...sums.values()];
}

/** OpenMetrics wants whole bounds as `1.0`. */
function boundText(seconds: number): string {
  return Number.isInteger(seconds) ? `${seconds}.0` : String(seconds);
}
