// Turns of the event loop while something waits on a seqpacket socket: its poll callback comes without
// the end of a turn, so promises it settles stay where they are until a timer fires. Ends when
// lib/sys/seqpacket.ts wakes its waiters through setImmediate.

const IDLE_MS = 50;
const WAITING_MS = 1;

/** Ticks slowly always, quickly while `during` runs. Owns its timers. */
export class Pulse implements Disposable {
  readonly #idle = setInterval(() => {}, IDLE_MS);
  #waiting = 0;
  #fast: NodeJS.Timeout | null = null;

  async during<T>(work: Promise<T>): Promise<T> {
    this.#waiting++;
    this.#fast ??= setInterval(() => {}, WAITING_MS);
    try {
      return await work;
    } finally {
      if (--this.#waiting === 0 && this.#fast !== null) {
        clearInterval(this.#fast);
        this.#fast = null;
      }
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#idle);
    if (this.#fast !== null) clearInterval(this.#fast);
    this.#fast = null;
  }
}
