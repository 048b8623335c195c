// Keys that wait to be brought up to date: each is in the queue once, a key whose work failed comes
// back later, and nothing is remembered while nobody works.
import { setImmediate } from "node:timers/promises";
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock } from "#lib/base/clock.ts";

export interface WorkQueueOptions<K> {
  /** One at a time; the state to act on is the state now, not when the key was added. Throws to be called again. */
  handle(key: K): Promise<void>;
  /** The last attempt failed: the key is forgotten until it is added again. */
  onGivenUp(key: K, error: unknown): void;
  readonly clock: Clock;
}

/** As Istio's controllers: 5, 10, 20 and 40 ms between the attempts. */
const MAX_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 1_000;
/** Keys handled before other work gets its turn. */
const KEYS_PER_TURN = 64;

export class WorkQueue<K> {
  readonly #options: WorkQueueOptions<K>;
  /** Bounded by the number of different keys. */
  readonly #waiting = new Set<K>();
  readonly #failures = new Map<K, { attempts: number; readonly backoff: Backoff }>();
  #isRunning = false;
  #wake = Promise.withResolvers<void>();

  constructor(options: WorkQueueOptions<K>) {
    this.#options = options;
  }

  /** Keys that wait, without those that wait for another attempt. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Does nothing while the queue does not run: whoever runs it begins with all keys. */
  add(key: K): void {
    if (!this.#isRunning) return;
    this.#waiting.add(key);
    this.#wake.resolve();
  }

  /** Works until `signal` aborts, then forgets everything. Never rejects. */
  async run(initial: Iterable<K>, signal: AbortSignal): Promise<void> {
    const stop = (): void => this.#wake.resolve();
    signal.addEventListener("abort", stop, { once: true });
    this.#isRunning = true;
    for (const key of initial) this.#waiting.add(key);
    for (let handled = 0; !signal.aborted; ) {
      const { value: key, done = false } = this.#waiting.values().next();
      if (done) {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
        continue;
      }
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- not done, so a key
      await this.#work(key as K, signal);
      if (++handled % KEYS_PER_TURN === 0) await setImmediate();
    }
    this.#isRunning = false;
    this.#waiting.clear();
    this.#failures.clear();
    signal.removeEventListener("abort", stop);
  }

  async #work(key: K, signal: AbortSignal): Promise<void> {
    const { handle, onGivenUp, clock } = this.#options;
    this.#waiting.delete(key);
    try {
      await handle(key);
      this.#failures.delete(key);
    } catch (error) {
      if (signal.aborted) return;
      const backoff = new Backoff({ startMs: FIRST_PAUSE_MS, maxMs: LONGEST_PAUSE_MS });
      const failure = this.#failures.get(key) ?? { attempts: 0, backoff };
      this.#failures.set(key, failure);
      if (++failure.attempts >= MAX_ATTEMPTS) {
        this.#failures.delete(key);
        onGivenUp(key, error);
        return;
      }
      void clock.sleep(failure.backoff.next(), signal).then(() => {
        if (!signal.aborted) this.add(key);
      });
    }
  }
}
