// Counts under label sets that come from outside the proxy (policies, names, peers), bounded in number.
import type { LabelledCount } from "./snapshot.ts";

/** Further label sets are not counted: a scrape must stay readable, and a peer must not fill our memory. */
const MAX_SERIES = 10_000;

export class LabelledCounter {
  readonly #series = new Map<string, { readonly labels: readonly string[]; count: number }>();

  count(labels: readonly string[]): void {
    const key = labels.join("\0");
    const entry = this.#series.get(key);
    if (entry !== undefined) entry.count++;
    else if (this.#series.size < MAX_SERIES) this.#series.set(key, { labels, count: 1 });
  }

  snapshot(): LabelledCount[] {
    return Array.from(this.#series.values(), ({ labels, count }) => ({ labels, count }));
  }
}
