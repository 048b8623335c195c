// Times of single operations, kept whole: a few million numbers are nothing beside a wrong percentile.
import type { LoadResult } from "./protocol.ts";

export class Latencies {
  #times = new Float64Array(1 << 16);
  #count = 0;

  /** @param us  microseconds */
  add(us: number): void {
    if (this.#count === this.#times.length) {
      const larger = new Float64Array(this.#times.length * 2);
      larger.set(this.#times);
      this.#times = larger;
    }
    this.#times[this.#count++] = us;
  }

  get count(): number {
    return this.#count;
  }

  result(seconds: number, failures: number): LoadResult {
    const sorted = this.#times.subarray(0, this.#count).sort();
    const at = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
    return {
      seconds,
      operations: this.#count,
      failures,
      p50: at(0.5),
      p90: at(0.9),
      p99: at(0.99),
    };
  }
}
