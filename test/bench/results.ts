// All numbers of a run: samples by figure and path, and their medians.

export interface Sample {
  /** e.g. "throughput, 8 streams". */
  readonly figure: string;
  /** e.g. "hbone"; "" for figures that have one path only. */
  readonly path: string;
  readonly unit: string;
  readonly value: number;
}

export interface Row {
  readonly figure: string;
  readonly path: string;
  readonly unit: string;
  readonly median: number;
  readonly samples: readonly number[];
}

export class Results {
  readonly #rows = new Map<
    string,
    { figure: string; path: string; unit: string; samples: number[] }
  >();
  readonly notes: string[] = [];

  add(figure: string, path: string, unit: string, value: number): void {
    if (!Number.isFinite(value)) return this.note(`${figure} (${path}): no number`);
    const key = `${figure}\n${path}`;
    const row = this.#rows.get(key);
    if (row === undefined) this.#rows.set(key, { figure, path, unit, samples: [value] });
    else row.samples.push(value);
  }

  note(text: string): void {
    if (!this.notes.includes(text)) this.notes.push(text);
  }

  rows(): Row[] {
    return [...this.#rows.values()].map((r) => ({ ...r, median: median(r.samples) }));
  }

  median(figure: string, path: string): number | null {
    const row = this.#rows.get(`${figure}\n${path}`);
    return row === undefined ? null : median(row.samples);
  }
}

export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[(sorted.length >> 1) - 1] ?? NaN)) / 2;
}
