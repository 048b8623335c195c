// The objects of a manifest directory in memory: reads files that changed, keeps the last good state
// of those that broke, and reports each object's change once.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { KubeObject } from "./cluster.ts";
import { KubeError } from "./errors.ts";
import { cannotRead, readChanged } from "./file-reading.ts";
import { type Json, sameJson } from "./json.ts";
import { identityKey, parseManifest } from "./manifest.ts";
import { groupOf, kindKey } from "./objects.ts";
import { overlaid } from "./status-overlay.ts";
import { StatusStore } from "./status-store.ts";
import { type StoreUpdate, Update } from "./store-update.ts";

const MAX_DEPTH = 8;
/** Files read before other work gets its turn. */
const FILES_PER_TURN = 100;

interface FileState {
  /** Device, inode, size and times: equal means unread since. */
  stamp: string;
  objects: ReadonlyMap<string, KubeObject>;
  errors: readonly KubeError[];
}

/** Names that editors and atomic writers use for what is not yet a manifest. */
export function isManifestName(name: string): boolean {
  return !name.startsWith(".") && !/\.tmp(?:\.|$)/.test(name) && /\.(?:ya?ml|json)$/.test(name);
}

export class ManifestStore {
  readonly dir: string;
  /** Read through `scan` and `refresh` of this class, so that objects follow. */
  readonly statuses: StatusStore;
  readonly #files = new Map<string, FileState>();
  /** Object key → the files that define it, in path order; the first counts. */
  readonly #definedBy = new Map<string, string[]>();
  /** `group/Kind` → object key → object. */
  readonly #kinds = new Map<string, Map<string, KubeObject>>();
  #dirError: KubeError | null = null;

  constructor(dir: string) {
    this.dir = dir;
    this.statuses = new StatusStore(dir);
  }

  /** With the status kept beside the manifest, if there is one. */
  get(kind: string, key: string): KubeObject | null {
    return this.#kinds.get(kind)?.get(key) ?? null;
  }

  list(kind: string): Iterable<KubeObject> {
    return this.#kinds.get(kind)?.values() ?? [];
  }

  /** The file whose definition of this object counts. */
  fileOf(key: string): string | null {
    return this.#definedBy.get(key)?.[0] ?? null;
  }

  /** The object as its manifest has it. */
  document(key: string): KubeObject | null {
    const file = this.fileOf(key);
    return file === null ? null : (this.#files.get(file)?.objects.get(key) ?? null);
  }

  /** Status files of objects that do not exist. */
  orphans(): string[] {
    return [...this.statuses.keys()]
      .filter((key) => !this.#definedBy.has(key))
      .flatMap((key) => this.statuses.fileOf(key) ?? []);
  }

  errors(): KubeError[] {
    const manifests = [...this.#files.values()].flatMap((file) => [...file.errors]);
    const files = [...manifests, ...this.statuses.errors()];
    return this.#dirError === null ? files : [this.#dirError, ...files];
  }

  /** Looks at every file; reads those whose stamp changed. @returns false when the directory cannot be read */
  async scan(onUpdate: (update: StoreUpdate) => void): Promise<boolean> {
    const seen = new Set<string>();
    const { files, error } = this.#walk();
    const isNew = error !== null && error.message !== this.#dirError?.message;
    this.#dirError = error;
    if (isNew) onUpdate({ changes: [], errors: [error] });
    if (error !== null) return false; // an unreadable directory says nothing about its objects
    let update = new Update();
    // Before the manifests: an object is never seen first without its status.
    for (const file of this.statuses.found()) this.#readStatus(file, false, update);
    for (let i = 0; i < files.length; i++) {
      const file = files[i] ?? "";
      seen.add(file);
      this.#read(file, false, update);
      if (i % FILES_PER_TURN === FILES_PER_TURN - 1) {
        if (!update.isEmpty) onUpdate(update.done());
        update = new Update();
        await setImmediate();
      }
    }
    for (const file of this.#files.keys()) if (!seen.has(file)) this.#read(file, false, update);
    if (!update.isEmpty) onUpdate(update.done());
    return true;
  }

  /**
   * Reads these files again; missing ones are gone.
   * @param always whatever their stamps say: two writes within one tick of the clock may look alike
   */
  refresh(files: Iterable<string>, always = true): StoreUpdate {
    const update = new Update();
    for (const file of files)
      if (this.statuses.holds(file)) this.#readStatus(file, always, update);
      else this.#read(file, always, update);
    return update.done();
  }

  /** Known files below `dir`. */
  filesUnder(dir: string): string[] {
    return [...this.#files.keys(), ...this.statuses.files()].filter((file) =>
      file.startsWith(`${dir}/`),
    );
  }

  #walk(): { files: string[]; error: KubeError | null } {
    const files: string[] = [];
    const visit = (dir: string, depth: number): void => {
      for (const entry of readdirSync(dir, { withFileTypes: true })) {
        if (entry.name.startsWith(".")) continue;
        const path = join(dir, entry.name);
        if (entry.isDirectory()) {
          if (depth < MAX_DEPTH) tryReadDir(() => visit(path, depth + 1));
        } else if (isManifestName(entry.name)) files.push(path);
      }
    };
    try {
      visit(this.dir, 0);
      return { files: files.sort(), error: null };
    } catch (error) {
      return { files, error: cannotRead(this.dir, error) };
    }
  }

  #read(file: string, always: boolean, update: Update): void {
    const known = this.#files.get(file);
    const reading = readChanged(file, always ? null : (known?.stamp ?? null));
    if (reading.kind === "unchanged") return;
    if (reading.kind === "gone") return this.#forget(file, update);
    const { stamp } = reading;
    if (reading.kind === "failed") return this.#fail(file, stamp, [reading.error], update);
    const { objects, errors } = parseManifest(reading.text, file);
    // A broken edit changes nothing; at the first reading, what is readable counts.
    const hadState = known !== undefined && (known.objects.size > 0 || known.errors.length === 0);
    if (errors.length > 0 && hadState) return this.#fail(file, stamp, errors, update);
    const problems = [...errors];
    const next = new Map<string, KubeObject>();
    for (const object of objects) {
      const key = identityKey(object);
      if (next.has(key)) problems.push(duplicate(key, file, file));
      else next.set(key, object);
    }
    this.#files.set(file, { stamp, objects: next, errors: problems });
    for (const key of known?.objects.keys() ?? [])
      if (!next.has(key)) this.#undefine(key, file, update);
    for (const [key, object] of next) {
      const other = this.#define(key, file, object, known?.objects.get(key), update);
      if (other !== null) problems.push(duplicate(key, file, other));
    }
    reportNew(problems, known?.errors ?? [], update);
  }

  #readStatus(file: string, always: boolean, update: Update): void {
    const { keys, error } = this.statuses.read(file, always);
    for (const key of keys) this.#settle(key, null, update);
    if (error !== null) update.errors.push(error);
  }

  /** Keeps the objects the file had. */
  #fail(file: string, stamp: string, errors: readonly KubeError[], update: Update): void {
    const known = this.#files.get(file);
    this.#files.set(file, { stamp, objects: known?.objects ?? new Map(), errors });
    reportNew(errors, known?.errors ?? [], update);
  }

  #forget(file: string, update: Update): void {
    const known = this.#files.get(file);
    if (known === undefined) return;
    this.#files.delete(file);
    for (const key of known.objects.keys()) this.#undefine(key, file, update);
  }

  /** @returns another file that defines the object too */
  #define(
    key: string,
    file: string,
    object: KubeObject,
    previous: KubeObject | undefined,
    update: Update,
  ): string | null {
    const files = this.#definedBy.get(key);
    if (files === undefined) this.#definedBy.set(key, [file]);
    else if (previous === undefined && !files.includes(file)) {
      files.push(file);
      files.sort();
    }
    this.#settle(key, object, update);
    return files?.find((other) => other !== file) ?? null;
  }

  #undefine(key: string, file: string, update: Update): void {
    const files = this.#definedBy.get(key)?.filter((other) => other !== file) ?? [];
    if (files.length === 0) this.#definedBy.delete(key);
    else this.#definedBy.set(key, files);
    this.#settle(key, null, update);
  }

  /** Makes the definition that counts the current one. `object` gives the kind. */
  #settle(key: string, object: KubeObject | null, update: Update): void {
    const winner = this.fileOf(key);
    const document = winner === null ? null : (this.#files.get(winner)?.objects.get(key) ?? object);
    const after = document === null ? null : overlaid(document, this.statuses.get(key));
    const kind = key.slice(0, key.indexOf("|"));
    let objects = this.#kinds.get(kind);
    const before = objects?.get(key) ?? null;
    if (after === null) {
      objects?.delete(key);
      if (before !== null) update.change(key, before, null);
      return;
    }
    if (before !== null && sameJson(json(before), json(after))) return;
    if (objects === undefined) {
      objects = new Map();
      this.#kinds.set(kind, objects);
    }
    objects.set(key, after);
    update.change(key, before, after);
  }
}

/** The kind of `group/Kind` that an object belongs to. */
export function kindOf(object: KubeObject): string {
  return kindKey({ group: groupOf(object.apiVersion), kind: object.kind });
}

function json(object: KubeObject): Json {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- objects come from documents
  return object as unknown as Json;
}

function reportNew(now: readonly KubeError[], before: readonly KubeError[], update: Update): void {
  const known = new Set(before.map((e) => e.message));
  update.errors.push(...now.filter((e) => !known.has(e.message)));
}

function duplicate(key: string, file: string, other: string): KubeError {
  const [kind, namespace, name] = key.split("|");
  const object = `${kind?.replace(/^\//, "")} ${namespace === "" ? "" : `${namespace}/`}${name}`;
  return new KubeError(
    "DUPLICATE",
    file === other
      ? `${file}: ${object} is defined twice, the first counts`
      : `${file}: ${object} is also defined in ${other}, the first by path counts`,
    { file },
  );
}

/** A directory that vanishes or is closed to us while walking is skipped; its files stay as they are known. */
function tryReadDir(body: () => void): void {
  try {
    body();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOENT" && code !== "ENOTDIR" && code !== "EACCES") throw error;
  }
}
