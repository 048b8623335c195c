// Writes to a manifest directory: atomic, one at a time across processes, and never to what a person
// wrote where only a status changes.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { KubeObject } from "./cluster.ts";
import { DirectoryLock } from "./directory-lock.ts";
import { KubeError } from "./errors.ts";
import { cannotRead } from "./file-reading.ts";
import { type JsonObject, sameJson } from "./json.ts";
import { editManifest, keyFor, printObject } from "./manifest.ts";
import { manifestPath } from "./manifest-path.ts";
import type { ManifestStore } from "./manifest-store.ts";
import { kindKey } from "./objects.ts";
import { type ObjectName, shown, stamped, unstamped } from "./stamp.ts";
import { concerns, overlayFields, printOverlay } from "./status-overlay.ts";
import type { StoreUpdate } from "./store-update.ts";

export interface DirectoryWriterOptions {
  /** Borrowed; brought up to date before and after each write. */
  readonly store: ManifestStore;
  /** How long a writer waits for other writers; `null`: the lock's default. */
  readonly lockTimeoutMs: number | null;
  /** Milliseconds since the epoch. */
  now(): number;
  /** Makes the store see what other processes wrote. */
  fresh(): Promise<void>;
  publish(update: StoreUpdate): void;
}

/** A status without its object is removed when two looks this far apart found it so. */
const ORPHAN_LOOK_MS = 60_000;
let serial = 0;

export class DirectoryWriter {
  readonly #options: DirectoryWriterOptions;
  readonly #store: ManifestStore;
  readonly #lock: DirectoryLock;
  #lastVersion = 0;
  #orphans: { readonly sinceMs: number; readonly files: ReadonlySet<string> } | null = null;

  constructor(options: DirectoryWriterOptions) {
    const { store, lockTimeoutMs } = options;
    this.#options = options;
    this.#store = store;
    this.#lock = new DirectoryLock(
      store.dir,
      lockTimeoutMs === null ? {} : { timeoutMs: lockTimeoutMs },
    );
  }

  /**
   * Stores what `change` makes of the object (`null`: does not exist). Nothing new is no write.
   * @param isStatus the manifest of a person stays as it is, see README.md
   * @throws {KubeError} and whatever `change` throws; then nothing is written
   */
  async write(
    of: ObjectName,
    change: (current: JsonObject | null) => JsonObject,
    isStatus: boolean,
  ): Promise<KubeObject> {
    mkdirSync(this.#store.dir, { recursive: true });
    return this.#lock.run(async () => {
      await this.#freshFor(of, !isStatus);
      const stored = this.#find(of);
      const current = json(stored);
      this.#lastVersion = Math.max(this.#lastVersion + 1, this.#options.now() * 1000);
      const next = stamped(of, current, change(current), this.#lastVersion);
      if (stored !== null && sameJson(current ?? undefined, next)) return stored;
      if (stored !== null && this.#isKeptBeside(of, isStatus)) this.#writeBeside(of, next);
      else {
        const key = keyOf(of);
        const file = this.#store.fileOf(key) ?? this.#pathFor(of);
        this.#dropStatus(key); // of a former object of this name
        this.#save(file, editManifest(readIfThere(file), file, key, next));
      }
      this.#dropOrphans();
      return this.#find(of) ?? this.#lost(of);
    });
  }

  /** Succeeds when there is none. */
  async delete(of: ObjectName): Promise<void> {
    if (!exists(this.#store.dir)) return;
    const key = keyOf(of);
    await this.#lock.run(async () => {
      for (;;) {
        await this.#freshFor(of, true);
        const file = this.#store.fileOf(key); // another file's definition may take over
        if (file === null) break;
        this.#save(file, editManifest(readIfThere(file), file, key, null));
      }
      this.#dropStatus(key);
    });
  }

  /** Once beside, always beside: one object has one place for its status. */
  #isKeptBeside(of: ObjectName, isStatus: boolean): boolean {
    const key = keyOf(of);
    const document = this.#store.document(key);
    const overlay = this.#store.statuses.get(key);
    if (document === null) return false;
    if (overlay !== null && concerns(overlay, document)) return true;
    return isStatus && !this.#isOurs(of, document);
  }

  /** True for a file that holds this object alone, exactly as this class prints it: nobody's words are lost. */
  #isOurs(of: ObjectName, document: KubeObject): boolean {
    const file = this.#store.fileOf(keyOf(of));
    if (file === null || file !== this.#pathFor(of)) return false;
    const text = readIfThere(file).replace(/^---\n/, "");
    return text === printObject(json(document) ?? {}, file);
  }

  /** The status to its own file, and the manifest only if anything else changed. */
  #writeBeside(of: ObjectName, next: JsonObject): void {
    const key = keyOf(of);
    const document = json(this.#store.document(key)) ?? {};
    const file = this.#store.fileOf(key) ?? this.#pathFor(of);
    const { status: wanted, ...rest } = next;
    const manifest = document.status === undefined ? rest : { ...rest, status: document.status };
    if (!sameJson(unstamped(manifest), unstamped(document)))
      this.#save(file, editManifest(readIfThere(file), file, key, manifest));
    const saved = this.#store.document(key) ?? this.#lost(of);
    const fields = overlayFields(document.status, wanted);
    const { uid = null } = saved.metadata;
    const resourceVersion = String(this.#lastVersion);
    const { resource, namespace, name } = of;
    const path = this.#store.statuses.fileOf(key);
    if (Object.keys(fields).length === 0) {
      if (path !== null) this.#save(path, null);
      return;
    }
    this.#save(
      path ?? this.#store.statuses.pathFor(resource, namespace, name),
      printOverlay(saved, { uid, resourceVersion, fields }),
    );
  }

  #dropStatus(key: string): void {
    const file = this.#store.statuses.fileOf(key);
    if (file !== null) this.#save(file, null);
  }

  /** Manifests taken away by hand leave their status behind; a broken one may hold any object. */
  #dropOrphans(): void {
    const now = this.#options.now();
    const before = this.#orphans;
    if (before !== null && now - before.sinceMs < ORPHAN_LOOK_MS) return;
    const files = this.#store.errors().length > 0 ? [] : this.#store.orphans();
    for (const file of files) if (before?.files.has(file) === true) this.#save(file, null);
    this.#orphans = { sinceMs: now, files: new Set(files) };
  }

  #save(file: string, text: string | null): void {
    try {
      if (text === null) {
        rmSync(file, { force: true });
      } else {
        mkdirSync(dirname(file), { recursive: true });
        const temporary = join(dirname(file), `.${process.pid}.${++serial}.tmp`);
        writeFileSync(temporary, text);
        renameSync(temporary, file);
      }
    } catch (error) {
      throw new KubeError("IO", `Cannot write ${file}: ${String(error)}`, { file, cause: error });
    }
    this.#options.publish(this.#store.refresh([file]));
  }

  #pathFor({ resource, namespace, name }: ObjectName): string {
    return join(this.#store.dir, `${manifestPath(resource.plural, namespace, name)}.yaml`);
  }

  #find(of: ObjectName): KubeObject | null {
    return this.#store.get(kindKey(of.resource), keyOf(of));
  }

  #lost(of: ObjectName): never {
    const { resource, namespace, name } = of;
    const file = this.#store.fileOf(keyOf(of)) ?? this.#pathFor(of);
    const what = `${resource.kind} ${shown(namespace, name)}`;
    throw new KubeError("IO", `${file} did not keep ${what}`, { file });
  }

  /**
   * Under the lock: the object's own files are read again even when a watch runs.
   * @param always for a write of the manifest itself; a status needs no second reading of a large file
   */
  async #freshFor(of: ObjectName, always: boolean): Promise<void> {
    await this.#options.fresh();
    const { resource, namespace, name } = of;
    const { publish } = this.#options;
    const file = this.#store.fileOf(keyOf(of));
    const usual = this.#pathFor(of);
    const { statuses } = this.#store;
    publish(this.#store.refresh([usual, statuses.pathFor(resource, namespace, name)]));
    if (file !== null && file !== usual) publish(this.#store.refresh([file], always));
  }
}

function keyOf({ resource, namespace, name }: ObjectName): string {
  return keyFor(resource, namespace, name);
}

function json(object: KubeObject | null): JsonObject | null {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- objects come from documents
  return object as unknown as JsonObject | null;
}

function exists(dir: string): boolean {
  try {
    mkdirSync(dir, { recursive: true });
    return true;
  } catch {
    return false;
  }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw cannotRead(file, error);
  }
}
