// Gives memory back when a worker has become quiet: what a burst of connections left as garbage would
// otherwise stay until the next burst. Collecting stops the thread for some 30 ms, so it waits for silence.
import type { Reactor } from "#lib/sys/reactor.ts";
import * as raw from "#lib/sys/raw.ts";
import { trimHeap } from "../trim-heap.ts";

const LOOK_MS = 1_000;
/** Fewer turns than this between two looks is silence: timers and pings of a few tunnels. */
const QUIET_TURNS = 100;
/** Growth since the last trim that is worth a pause. */
const WORTH_BYTES = 4_194_304;

export class IdleTrim {
  readonly #reactor: Reactor;
  #turnsSeen = 0;
  #heapAfterTrim = 0;

  constructor(reactor: Reactor) {
    this.#reactor = reactor;
    this.#look();
  }

  #look(): void {
    const turns = this.#reactor.turns - this.#turnsSeen;
    this.#turnsSeen = this.#reactor.turns;
    const { heapTotal } = process.memoryUsage();
    if (turns < QUIET_TURNS && heapTotal - this.#heapAfterTrim > WORTH_BYTES) {
      trimHeap();
      raw.mallocTrim(0); // OpenSSL's share
      this.#heapAfterTrim = process.memoryUsage().heapTotal;
    }
    this.#reactor.after(LOOK_MS, () => this.#look());
  }
}
