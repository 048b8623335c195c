// The last events of a worker, numbered, for `/ambit/events`. What is overwritten unread is counted.
import type { TunnelEvent } from "#lib/model/tunnel.ts";

export const EVENT_RING_SIZE = 4096;

/** What is kept of an event; the view of it is made only when somebody asks. */
export interface EventSource {
  view(seq: number): TunnelEvent;
}

export class EventRing {
  readonly #slots: (EventSource | undefined)[] = [];
  #next = 1;
  #readUpTo = 0;
  /** Overwritten before anybody saw them; counted once somebody has begun to look. */
  lost = 0;

  /** Hot path: runs twice per connection. */
  push(event: EventSource): void {
    const seq = this.#next++;
    if (this.#readUpTo > 0 && seq - EVENT_RING_SIZE > this.#readUpTo) this.lost++;
    this.#slots[seq % EVENT_RING_SIZE] = event;
  }

  /** Events above `seq`, oldest first. */
  since(seq: number): TunnelEvent[] {
    const found: TunnelEvent[] = [];
    for (let s = Math.max(seq + 1, this.#next - EVENT_RING_SIZE, 1); s < this.#next; s++) {
      const event = this.#slots[s % EVENT_RING_SIZE];
      if (event !== undefined) found.push(event.view(s));
    }
    this.#readUpTo = this.#next - 1;
    return found;
  }
}
