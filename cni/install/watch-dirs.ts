// Says that something in a few directories has changed, nothing more: whoever asks looks for himself.
// A directory that does not exist is looked for again by `arm`.
import { statSync, watch, type FSWatcher } from "node:fs";

/** Owns its watches. */
export class DirectoryWatch implements Disposable {
  readonly #dirs: readonly string[];
  readonly #watchers = new Map<string, { readonly watcher: FSWatcher; readonly inode: bigint }>();
  #hasChanged = false;
  #wake: (() => void) | null = null;

  constructor(dirs: readonly string[]) {
    this.#dirs = [...new Set(dirs)];
  }

  /** Watches what can be watched. What changes from now on ends the next `changed`. */
  arm(): void {
    this.#hasChanged = false;
    for (const dir of this.#dirs) {
      try {
        const inode = statSync(dir, { bigint: true }).ino;
        if (this.#watchers.get(dir)?.inode === inode) continue;
        this.#watchers.get(dir)?.watcher.close(); // of a directory that was replaced
        const watcher = watch(dir, { persistent: false }, () => this.#onChange());
        watcher.once("error", () => this.#drop(dir));
        this.#watchers.set(dir, { watcher, inode });
      } catch {
        // not there yet; the caller looks again after a while
      }
    }
  }

  /** Resolves when something has changed since `arm`, after `ms`, or when `signal` aborts. */
  async changed(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#hasChanged || signal.aborted) return;
    const woken = Promise.withResolvers<void>();
    this.#wake = woken.resolve;
    const timer = setTimeout(woken.resolve, ms);
    signal.addEventListener("abort", woken.resolve as () => void, { once: true });
    await woken.promise;
    clearTimeout(timer);
    signal.removeEventListener("abort", woken.resolve as () => void);
    this.#wake = null;
  }

  #onChange(): void {
    this.#hasChanged = true;
    this.#wake?.();
  }

  #drop(dir: string): void {
    this.#watchers.get(dir)?.watcher.close();
    this.#watchers.delete(dir);
    this.#onChange();
  }

  [Symbol.dispose](): void {
    for (const { watcher } of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }
}
