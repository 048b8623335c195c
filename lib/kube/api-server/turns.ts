// At most so many requests at once; the others wait in line, in order.
import { KubeError } from "../errors.ts";

export class Turns {
  readonly #max: number;
  readonly #maxWaiting: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(max: number, maxWaiting: number) {
    this.#max = max;
    this.#maxWaiting = maxWaiting;
  }

  /**
   * Dispose the result when done.
   * @throws {KubeError} `BUSY` when too many wait; the signal's reason when it aborts
   */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#running >= this.#max) {
      if (this.#waiting.size >= this.#maxWaiting)
        throw new KubeError("BUSY", `${this.#maxWaiting} requests to the API server wait already`);
      await this.#wait(signal);
    }
    this.#running++;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#running--;
        const [next] = this.#waiting;
        next?.();
      },
    };
  }

  /** Resolves when it is our turn; `next()` runs at most once before we count ourselves again. */
  async #wait(signal: AbortSignal): Promise<void> {
    do {
      const woken = Promise.withResolvers<void>();
      const wake = (): void => {
        this.#waiting.delete(wake);
        woken.resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake, { once: true });
      await woken.promise;
      signal.removeEventListener("abort", wake);
      if (signal.aborted) {
        const [next] = this.#waiting; // perhaps it was our turn: pass it on
        next?.();
        signal.throwIfAborted();
      }
    } while (this.#running >= this.#max);
  }
}
