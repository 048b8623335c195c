// The files below `.status/` in memory: one object's status each, see status-overlay.ts.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Resource } from "./cluster.ts";
import { KubeError } from "./errors.ts";
import { readChanged } from "./file-reading.ts";
import { manifestPath } from "./manifest-path.ts";
import { parseOverlay, STATUS_DIR, type StatusOverlay } from "./status-overlay.ts";

interface StatusFile {
  readonly stamp: string;
  readonly key: string;
  /** `null`: never could be read. */
  readonly overlay: StatusOverlay | null;
  readonly error: KubeError | null;
}

export interface StatusReading {
  /** Objects whose status may differ now. */
  readonly keys: readonly string[];
  readonly error: KubeError | null;
}

const UNCHANGED: StatusReading = { keys: [], error: null };

export class StatusStore {
  readonly dir: string;
  readonly #files = new Map<string, StatusFile>();
  readonly #overlays = new Map<
    string,
    { readonly file: string; readonly overlay: StatusOverlay }
  >();

  /** @param manifests the manifest directory */
  constructor(manifests: string) {
    this.dir = join(manifests, STATUS_DIR);
  }

  get(key: string): StatusOverlay | null {
    return this.#overlays.get(key)?.overlay ?? null;
  }

  /** Objects that have a status here, whether they exist or not. */
  keys(): Iterable<string> {
    return this.#overlays.keys();
  }

  files(): Iterable<string> {
    return this.#files.keys();
  }

  errors(): KubeError[] {
    return [...this.#files.values()].flatMap((file) => file.error ?? []);
  }

  /** Is this path one of ours? */
  holds(file: string): boolean {
    return file.startsWith(`${this.dir}/`);
  }

  pathFor(resource: Resource, namespace: string | null, name: string): string {
    return join(this.dir, `${manifestPath(resource.plural, namespace, name)}.json`);
  }

  /** The file that holds this object's status. */
  fileOf(key: string): string | null {
    return this.#overlays.get(key)?.file ?? null;
  }

  /** Every file there is or was: to be read again. A missing directory has none. */
  found(): Set<string> {
    const found = new Set(this.#files.keys());
    for (const kind of names(this.dir))
      for (const namespace of names(join(this.dir, kind)))
        for (const name of names(join(this.dir, kind, namespace)))
          if (name.endsWith(".json") && !name.startsWith("."))
            found.add(join(this.dir, kind, namespace, name));
    return found;
  }

  /** Looks at one file. A broken one leaves the status it had. */
  read(file: string, always: boolean): StatusReading {
    const known = this.#files.get(file);
    const reading = readChanged(file, always ? null : (known?.stamp ?? null));
    if (reading.kind === "unchanged") return UNCHANGED;
    if (reading.kind === "gone") {
      if (known === undefined) return UNCHANGED;
      this.#files.delete(file);
      this.#overlays.delete(known.key);
      return { keys: [known.key], error: null };
    }
    const { stamp } = reading;
    try {
      if (reading.kind === "failed") throw reading.error;
      const { key, overlay } = parseOverlay(reading.text, file);
      if (known !== undefined && known.key !== key) this.#overlays.delete(known.key);
      this.#files.set(file, { stamp, key, overlay, error: null });
      this.#overlays.set(key, { file, overlay });
      return { keys: known === undefined ? [key] : [known.key, key], error: null };
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      const { key = "", overlay = null } = known ?? {};
      this.#files.set(file, { stamp, key, overlay, error });
      return { keys: [], error: error.message === known?.error?.message ? null : error };
    }
  }
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // not there, or a file
  }
}
