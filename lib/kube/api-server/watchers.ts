// Those who watch one reflector. A handler that throws loses its watch, the others notice nothing.
import type { KubeObject, WatchHandler } from "../cluster.ts";

interface Watcher {
  readonly handler: WatchHandler<KubeObject>;
  readonly fail: (error: unknown) => void;
}

export class Watchers {
  readonly #all = new Set<Watcher>();

  get size(): number {
    return this.#all.size;
  }

  /** Calls `greet`, then tells `handler` everything until `signal` aborts. Rejects with what it throws. */
  async watch(
    handler: WatchHandler<KubeObject>,
    greet: (handler: WatchHandler<KubeObject>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const ended = Promise.withResolvers<void>();
    const watcher: Watcher = { handler, fail: ended.reject };
    const stop = (): void => ended.resolve();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    this.#all.add(watcher);
    try {
      if (!signal.aborted) greet(handler);
      await ended.promise;
    } finally {
      this.#all.delete(watcher);
      signal.removeEventListener("abort", stop);
    }
  }

  each(tell: (handler: WatchHandler<KubeObject>) => void): void {
    for (const watcher of this.#all) {
      try {
        tell(watcher.handler);
      } catch (error) {
        this.#all.delete(watcher);
        watcher.fail(error);
      }
    }
  }

  /** Ends every watch with this error: what fed them has broken. */
  failAll(error: unknown): void {
    for (const watcher of this.#all) watcher.fail(error);
  }
}
