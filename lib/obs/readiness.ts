// What a program still waits for. It is ready while nothing is pending; a thing may become pending again.

export class Readiness {
  readonly #pending = new Map<string, number>();

  /** Marks `what` pending until the result is disposed. Several blockers of one name count together. */
  block(what: string): Disposable {
    this.#pending.set(what, (this.#pending.get(what) ?? 0) + 1);
    let released = false;
    return {
      [Symbol.dispose]: () => {
        if (released) return;
        released = true;
        const left = (this.#pending.get(what) ?? 1) - 1;
        if (left > 0) this.#pending.set(what, left);
        else this.#pending.delete(what);
      },
    };
  }

  /** Sorted; empty when ready. */
  pending(): string[] {
    return [...this.#pending.keys()].sort();
  }
}
