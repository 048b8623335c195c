// A time limit and a caller's wish to stop, as one signal that leaves nothing behind on either.

export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #outer: AbortSignal | null;
  readonly #stop: () => void;
  /** True when time ran out, false when the caller stopped. */
  hasExpired = false;

  constructor(ms: number, outer?: AbortSignal) {
    this.#outer = outer ?? null;
    this.#stop = () => this.#controller.abort(outer?.reason);
    this.#timer = setTimeout(() => {
      this.hasExpired = true;
      this.#controller.abort();
    }, ms);
    if (outer?.aborted) this.#stop();
    else outer?.addEventListener("abort", this.#stop, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#stop);
  }
}
