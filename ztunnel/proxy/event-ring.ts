// The last events of a worker, numbered, for `/ambit/events`. What is overwritten unread is counted.
import type { TunnelEvent } from "#lib/model/tunnel.ts";

export const EVENT_RING_SIZE = 4096;

/** Events as a function that makes the view: only those somebody asks for are built. */
export class EventRing {
  readonly #slots: (((seq: number) => TunnelEvent) | undefined)[] = [];
  #next = 1;
  #readUpTo = 0;
  /** Overwritten before anybody saw them. */
  lost = 0;

  push(make: (seq: number) => TunnelEvent): void {
    const seq = this.#next++;
    if (seq - EVENT_RING_SIZE > this.#readUpTo && this.#readUpTo > 0) this.lost++;
    this.#slots[seq % EVENT_RING_SIZE] = make;
  }

  /** Events above `seq`, oldest first. */
  since(seq: number): TunnelEvent[] {
    const found: TunnelEvent[] = [];
    for (let s = Math.max(seq + 1, this.#next - EVENT_RING_SIZE, 1); s < this.#next; s++) {
      const make = this.#slots[s % EVENT_RING_SIZE];
      if (make !== undefined) found.push(make(s));
    }
    this.#readUpTo = this.#next - 1;
    return found;
  }
}
