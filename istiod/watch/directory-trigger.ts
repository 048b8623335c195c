// Tells that something in a directory changed. The directory is watched rather than a file in it,
// since mounted files are swapped by links and editors replace what they save.
import { type FSWatcher, watch } from "node:fs";
import type { Clock } from "#lib/base/clock.ts";

/** Several files change together, or one in several writes: wait until it has been quiet this long. */
const SETTLE_MS = 100;
/** Also looked at this often, for directories whose changes no watch reports. */
const POLL_MS = 60_000;

export class DirectoryTrigger implements Disposable {
  readonly #clock: Clock;
  readonly #watcher: FSWatcher | null;
  #wake = new AbortController();

  constructor(dir: string, clock: Clock, onError: (error: unknown) => void) {
    this.#clock = clock;
    try {
      this.#watcher = watch(dir, () => this.#wake.abort());
      this.#watcher.on("error", onError);
    } catch (error) {
      this.#watcher = null;
      onError(error);
    }
  }

  /** Resolves when there was a change since the last call and the directory is quiet, or after the poll interval. */
  async changed(signal: AbortSignal): Promise<void> {
    await this.#clock.sleep(POLL_MS, AbortSignal.any([signal, this.#wake.signal]));
    while (this.#wake.signal.aborted && !signal.aborted) {
      this.#wake = new AbortController();
      await this.#clock.sleep(SETTLE_MS, signal);
    }
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}
