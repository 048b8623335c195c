// Notices changes below a directory: one inotify watch per directory, and a slow periodic look for
// what inotify may lose (queue overflow, network file systems).
import { type FSWatcher, readdirSync, statSync, watch } from "node:fs";
import { dirname, join } from "node:path";
import { isManifestName } from "./manifest-store.ts";
import { STATUS_DIR } from "./status-overlay.ts";

/** Events that arrive together are one change; also lets a writer finish its second write. */
const SETTLE_MS = 2;
const MAX_DEPTH = 8;

export interface DirectoryWatchHandler {
  /** Manifest files that may have changed, appeared or gone. */
  onFiles(files: readonly string[]): void;
  /** A directory went; whatever was below it is to be looked at. */
  onDirectoryGone(dir: string): void;
  /** Events may be missing: look at everything. */
  onLost(): void;
}

/** Owns its watches and timers until disposed. */
export class DirectoryWatch implements Disposable {
  readonly #root: string;
  readonly #handler: DirectoryWatchHandler;
  readonly #watchers = new Map<string, { readonly watcher: FSWatcher; readonly inode: number }>();
  readonly #files = new Set<string>();
  readonly #gone = new Set<string>();
  #settle: NodeJS.Timeout | null = null;
  readonly #sweep: NodeJS.Timeout;

  constructor(root: string, handler: DirectoryWatchHandler, sweepMs: number) {
    this.#root = root;
    this.#handler = handler;
    this.#add(root, 0);
    this.#sweep = setInterval(() => {
      this.#add(root, 0); // directories made while their parent was not watched
      handler.onLost();
    }, sweepMs);
    this.#sweep.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#sweep);
    if (this.#settle !== null) clearTimeout(this.#settle);
    for (const { watcher } of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  /** Watches `dir` and all below; what is already in it counts as new. */
  #add(dir: string, depth: number): void {
    let entries: { name: string; isDirectory: boolean }[];
    let isNew = false;
    try {
      const inode = statSync(dir).ino;
      isNew = this.#watchers.get(dir)?.inode !== inode; // a directory made anew has another inode
      if (isNew) this.#open(dir, inode);
      entries = readdirSync(dir, { withFileTypes: true }).map((e) => ({
        name: e.name,
        isDirectory: e.isDirectory(),
      }));
    } catch {
      this.#drop(dir);
      return; // gone again, or not ours to read: the scan says so
    }
    for (const entry of entries) {
      if (this.#isHidden(dir, entry.name)) continue;
      const path = join(dir, entry.name);
      if (entry.isDirectory && depth < MAX_DEPTH) this.#add(path, depth + 1);
      else if (isNew && dir !== this.#root && isManifestName(entry.name)) this.#mark(path);
    }
  }

  #open(dir: string, inode: number): void {
    this.#drop(dir);
    const watcher = watch(dir, { persistent: false }, (_event, name) => this.#onEvent(dir, name));
    watcher.on("error", () => {
      this.#drop(dir);
      this.#handler.onLost();
    });
    this.#watchers.set(dir, { watcher, inode });
  }

  #onEvent(dir: string, name: string | null): void {
    if (name === null) return this.#handler.onLost();
    if (this.#isHidden(dir, name)) return;
    const path = join(dir, name);
    if (isManifestName(name)) return this.#mark(path);
    if (this.#watchers.has(path) && !isDirectory(path)) {
      for (const below of this.#watchers.keys())
        if (below === path || below.startsWith(`${path}/`)) this.#drop(below);
      this.#gone.add(path);
      this.#schedule();
    } else if (path !== this.#root && isDirectory(path)) {
      this.#add(path, depthOf(this.#root, path));
    }
  }

  #isHidden(dir: string, name: string): boolean {
    return name.startsWith(".") && !(dir === this.#root && name === STATUS_DIR);
  }

  #mark(file: string): void {
    this.#files.add(file);
    this.#schedule();
  }

  #schedule(): void {
    this.#settle ??= setTimeout(() => {
      this.#settle = null;
      const files = [...this.#files];
      const gone = [...this.#gone];
      this.#files.clear();
      this.#gone.clear();
      for (const dir of gone) this.#handler.onDirectoryGone(dir);
      if (files.length > 0) this.#handler.onFiles(files);
    }, SETTLE_MS);
  }

  #drop(dir: string): void {
    this.#watchers.get(dir)?.watcher.close();
    this.#watchers.delete(dir);
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function depthOf(root: string, path: string): number {
  let depth = 0;
  for (let at = path; at !== root && at !== dirname(at); at = dirname(at)) depth++;
  return depth;
}
