// Gives memory back once a large push has been taken in: the message, its decoded form and the blocks the
// workers have read are garbage that a quiet main thread would keep for hours.
import type { Clock } from "#lib/base/clock.ts";

/** Resources in one go that leave garbage worth a pause of the main thread. */
const WORTH_BYTES = 1_048_576;
/** Without a further response, the push is over; workers look as often (proxy/idle-trim.ts). */
const QUIET_MS = 2_000;

export class SettleTrim {
  readonly #clock: Pick<Clock, "sleep">;
  readonly #trim: () => void;
  #bytes = 0;
  #responses = 0;
  #isWaiting = false;

  /** @param trim  stops the thread for as long as its heap takes to collect */
  constructor(clock: Pick<Clock, "sleep">, trim: () => void) {
    this.#clock = clock;
    this.#trim = trim;
  }

  /** Call for each response, with the size of its resources. */
  received(bytes: number): void {
    this.#bytes += bytes;
    this.#responses++;
    if (this.#isWaiting || this.#bytes < WORTH_BYTES) return;
    this.#isWaiting = true;
    void this.#whenQuiet();
  }

  async #whenQuiet(): Promise<void> {
    for (let seen = -1; seen !== this.#responses; ) {
      seen = this.#responses;
      await this.#clock.sleep(QUIET_MS);
    }
    this.#isWaiting = false;
    this.#bytes = 0;
    this.#trim();
  }
}
