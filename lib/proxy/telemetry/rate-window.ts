// Bytes a second as readers of a page want them: over the last second or two, however many readers there are.

interface Sample {
  readonly atMs: number;
  readonly sent: number;
  readonly received: number;
}

/** Younger samples are no base for a rate: another reader may have looked a moment ago. */
const MIN_AGE_MS = 1_000;

/** Made at the first look; a connection nobody looks at has none. */
export class RateWindow {
  #base: Sample;
  #next: Sample;

  constructor(openedAtMs: number) {
    this.#base = { atMs: openedAtMs, sent: 0, received: 0 };
    this.#next = this.#base;
  }

  /** Since the last look but one that is at least a second old; at first since the connection was opened. */
  look(now: Sample): { readonly sent: number; readonly received: number } {
    if (now.atMs - this.#next.atMs >= MIN_AGE_MS) {
      this.#base = this.#next;
      this.#next = now;
    }
    const base = this.#base;
    const seconds = Math.max(0.001, (now.atMs - base.atMs) / 1_000);
    return {
      sent: Math.max(0, now.sent - base.sent) / seconds,
      received: Math.max(0, now.received - base.received) / seconds,
    };
  }
}
