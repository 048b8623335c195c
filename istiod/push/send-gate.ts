// Bounds the memory of large answers: every client gets a copy of its own of what may be tens of megabytes.

export interface Gated {
  /** Called when there may be room again; the client asks anew. */
  onGateOpen(): void;
}

export class SendGate {
  readonly #budgetBytes: number;
  /** Clients being sent something, and how much. */
  readonly #inside = new Map<Gated, number>();
  /** In order of arrival. */
  readonly #waiting = new Set<Gated>();
  #usedBytes = 0;
  #refused: Gated | null = null;

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /**
   * True when `client` may send `bytes` now; it leaves when they are sent. Otherwise it is called later,
   * unless it leaves before. One client always may, however much it is.
   */
  enter(client: Gated, bytes: number): boolean {
    if (this.#inside.has(client)) return true;
    const fits = this.#usedBytes === 0 || this.#usedBytes + bytes <= this.#budgetBytes;
    if (!fits) {
      this.#waiting.add(client);
      this.#refused = client;
      return false;
    }
    this.#waiting.delete(client);
    this.#inside.set(client, bytes);
    this.#usedBytes += bytes;
    return true;
  }

  /** Gives the room, or the turn, back. Harmless without one. */
  leave(client: Gated): void {
    this.#waiting.delete(client);
    const bytes = this.#inside.get(client);
    if (bytes === undefined) return;
    this.#inside.delete(client);
    this.#usedBytes -= bytes;
    for (const next of Array.from(this.#waiting)) {
      this.#refused = null;
      next.onGateOpen();
      if (this.#refused === next) return; // keeps its place at the head
      this.#waiting.delete(next); // inside now, or wants nothing any more
    }
  }
}
