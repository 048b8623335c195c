// Delays between attempts: doubling, capped, with optional jitter.
import type { Random } from "./clock.ts";

export interface BackoffOptions {
  /** First delay in ms. */
  readonly startMs: number;
  readonly maxMs: number;
  /** 0.2 spreads each delay over ±20 %. */
  readonly jitter?: number;
  readonly random?: Random;
}

/** `next()` gives the delay before the coming attempt; `reset()` after a success. */
export class Backoff {
  readonly #options: BackoffOptions;
  #nextMs: number;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#nextMs = options.startMs;
  }

  next(): number {
    const base = this.#nextMs;
    this.#nextMs = Math.min(this.#options.maxMs, base * 2);
    const jitter = this.#options.jitter ?? 0;
    const random = this.#options.random ?? Math.random;
    return Math.round(base * (1 + jitter * (2 * random() - 1)));
  }

  reset(): void {
    this.#nextMs = this.#options.startMs;
  }
}
