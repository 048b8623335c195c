// `Cluster` over a directory of manifests: the embedded stand-in for an API server. Reads follow the
// files within milliseconds; writes are atomic and serialised across processes.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { systemClock } from "#lib/base/clock.ts";
import type {
  Cluster,
  KubeObject,
  ListOptions,
  PatchOptions,
  Resource,
  WatchEvent,
  WatchHandler,
} from "./cluster.ts";
import { DirectoryLock } from "./directory-lock.ts";
import { DirectoryWatch } from "./directory-watch.ts";
import { KubeError } from "./errors.ts";
import { isJsonObject, type JsonObject, mergePatch, sameJson } from "./json.ts";
import { parseFieldSelector, parseLabelSelector } from "./labels.ts";
import { editManifest, keyFor } from "./manifest.ts";
import { kindOf, ManifestStore, type StoreUpdate } from "./manifest-store.ts";
import { kindKey } from "./objects.ts";
import { applied } from "./apply.ts";
import { shown, stamped } from "./stamp.ts";

export interface DirectoryClusterOptions {
  /** How often everything is looked at again, should the kernel have lost an event. */
  readonly sweepMs?: number;
  /** How long a writer waits for other writers. */
  readonly lockTimeoutMs?: number;
}

interface Subscription {
  readonly kind: string;
  readonly matches: (object: KubeObject) => boolean;
  readonly handler: WatchHandler<KubeObject>;
}

const DEFAULT_SWEEP_MS = 10_000;
/** Between looks for a directory that is not there yet. */
const RETRY_MS = 200;
let serial = 0;

export class DirectoryCluster implements Cluster {
  readonly dir: string;
  readonly #store: ManifestStore;
  readonly #lock: DirectoryLock;
  readonly #sweepMs: number;
  readonly #subscriptions = new Set<Subscription>();
  #watch: DirectoryWatch | null = null;
  /** The look at everything that is under way; one at a time. */
  #scan: Promise<void> | null = null;
  #scanAgain = false;
  /** True once the first scan since `#watch` was opened has ended. */
  #live = false;
  /** Watches that have begun or are about to: the last one to end closes `#watch`. */
  #watches = 0;
  #lastVersion = 0;

  constructor(dir: string, options: DirectoryClusterOptions = {}) {
    this.dir = dir;
    this.#store = new ManifestStore(dir);
    this.#sweepMs = options.sweepMs ?? DEFAULT_SWEEP_MS;
    this.#lock = new DirectoryLock(
      dir,
      options.lockTimeoutMs === undefined ? {} : { timeoutMs: options.lockTimeoutMs },
    );
  }

  async get<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
  ): Promise<T | null> {
    await this.#fresh();
    return this.#find(resource, namespace, name);
  }

  async list<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions = {},
  ): Promise<readonly T[]> {
    const matches = matcher(options);
    await this.#fresh();
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- parsed as this kind
    return [...this.#store.list(kindKey(resource))].filter(matches) as T[];
  }

  async watch<T extends KubeObject>(
    resource: Resource<T>,
    handler: WatchHandler<T>,
    options: ListOptions & { readonly signal: AbortSignal },
  ): Promise<void> {
    const { signal } = options;
    const matches = matcher(options);
    if (signal.aborted) return;
    this.#open();
    const subscription: Subscription = {
      kind: kindKey(resource),
      matches,
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only sees objects of `kind`
      handler: handler as unknown as WatchHandler<KubeObject>,
    };
    const ended = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    this.#watches++;
    try {
      await this.#untilLive(handler, signal);
      if (signal.aborted) return;
      this.#begin(subscription);
      await ended;
    } finally {
      this.#subscriptions.delete(subscription);
      if (--this.#watches === 0) this.#close();
    }
  }

  async apply<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: PatchOptions,
  ): Promise<T> {
    const { name } = object.metadata;
    const namespace = resource.namespaced ? (object.metadata.namespace ?? "default") : null;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a plain object by contract
    const given = structuredClone(object) as unknown as JsonObject;
    return this.#write(resource, namespace, name, (current) => applied(current, given, options));
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
    patch: unknown,
    options: PatchOptions,
  ): Promise<T> {
    if (!isJsonObject(patch))
      throw new KubeError("INVALID", `The patch of ${resource.kind} ${name} is not an object`);
    const { subresource } = options;
    return this.#write(resource, namespace, name, (current) => {
      if (current === null)
        throw new KubeError("NOT_FOUND", `No ${resource.kind} ${shown(namespace, name)} to patch`);
      const only = subresource === undefined ? patch : { [subresource]: patch[subresource] ?? {} };
      return mergePatch(current, structuredClone(only)) as JsonObject;
    });
  }

  async delete(resource: Resource, namespace: string | null, name: string): Promise<void> {
    const key = keyFor(resource, namespace, name);
    if (!this.#exists()) return;
    await this.#lock.run(async () => {
      for (;;) {
        await this.#freshFor(resource, namespace, name);
        const file = this.#store.fileOf(key); // another file's definition may take over
        if (file === null) return;
        this.#save(file, editManifest(readIfThere(file), file, key, null));
      }
    });
  }

  async #write<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
    change: (current: JsonObject | null) => JsonObject,
  ): Promise<T> {
    const key = keyFor(resource, namespace, name);
    mkdirSync(this.dir, { recursive: true });
    return this.#lock.run(async () => {
      await this.#freshFor(resource, namespace, name);
      const stored = this.#find(resource, namespace, name);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- objects come from documents
      const current = stored as unknown as JsonObject | null;
      this.#lastVersion = Math.max(this.#lastVersion + 1, Date.now() * 1000);
      const next = stamped(
        { resource, namespace, name },
        current,
        change(current),
        this.#lastVersion,
      );
      if (stored !== null && sameJson(current ?? undefined, next)) return stored;
      const file = this.#store.fileOf(key) ?? this.#pathFor(resource, namespace, name);
      this.#save(file, editManifest(readIfThere(file), file, key, next));
      const saved = this.#find(resource, namespace, name);
      if (saved === null)
        throw new KubeError(
          "IO",
          `${file} did not keep ${resource.kind} ${shown(namespace, name)}`,
          {
            file,
          },
        );
      return saved;
    });
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
    this.#publish(this.#store.refresh([file]));
  }

  #pathFor(resource: Resource, namespace: string | null, name: string): string {
    return join(this.dir, resource.plural, namespace ?? "_cluster", `${name}.yaml`);
  }

  #find<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
  ): T | null {
    const key = keyFor(resource, resource.namespaced ? (namespace ?? "default") : null, name);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- parsed as this kind
    return this.#store.get(kindKey(resource), key) as T | null;
  }

  /** Makes reads see what other processes wrote: free while a watch keeps the store current. */
  async #fresh(): Promise<void> {
    if (!this.#live) await this.#rescan();
  }

  /** Under the lock: the object's own file is read again even when a watch runs. */
  async #freshFor(resource: Resource, namespace: string | null, name: string): Promise<void> {
    await this.#fresh();
    const file = this.#store.fileOf(keyFor(resource, namespace, name));
    const usual = this.#pathFor(resource, namespace, name);
    this.#publish(this.#store.refresh(file === null || file === usual ? [usual] : [file, usual]));
  }

  #exists(): boolean {
    try {
      mkdirSync(this.dir, { recursive: true });
      return true;
    } catch {
      return false;
    }
  }

  /** An unreadable directory is no empty cluster: watches sync when it can be read. */
  async #untilLive(handler: { onError?(error: Error): void }, signal: AbortSignal): Promise<void> {
    let reported = "";
    while (!this.#live && !signal.aborted) {
      await this.#rescan();
      const [error] = this.#live ? [] : this.#store.errors();
      if (error !== undefined && error.message !== reported) handler.onError?.(error);
      reported = error?.message ?? "";
      if (!this.#live) await systemClock.sleep(RETRY_MS, signal);
    }
  }

  #open(): void {
    this.#watch ??= new DirectoryWatch(
      this.dir,
      {
        onFiles: (files) => this.#publish(this.#store.refresh(files)),
        onDirectoryGone: (dir) => this.#publish(this.#store.refresh(this.#store.filesUnder(dir))),
        onLost: () => void this.#rescan(),
      },
      this.#sweepMs,
    );
  }

  #close(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = null;
    this.#live = false;
  }

  /** One look at everything; callers during a running one get the next. */
  #rescan(): Promise<void> {
    if (this.#scan !== null) {
      this.#scanAgain = true;
      return this.#scan;
    }
    const run = async (): Promise<void> => {
      let ok: boolean;
      do {
        this.#scanAgain = false;
        ok = await this.#store.scan((update) => this.#publish(update));
      } while (this.#scanAgain);
      if (ok) this.#live = this.#watch !== null;
    };
    this.#scan = run().finally(() => {
      this.#scan = null;
    });
    return this.#scan;
  }

  #begin(subscription: Subscription): void {
    const { kind, matches, handler } = subscription;
    this.#subscriptions.add(subscription);
    const initial = [...this.#store.list(kind)].filter(matches);
    for (const error of this.#store.errors()) handler.onError?.(error);
    if (initial.length > 0)
      handler.onEvents(initial.map((object) => ({ type: "added" as const, object })));
    handler.onSynced();
  }

  #publish(update: StoreUpdate): void {
    for (const subscription of this.#subscriptions) {
      for (const error of update.errors) subscription.handler.onError?.(error);
      const events: WatchEvent<KubeObject>[] = [];
      for (const { before, after } of update.changes) {
        const sample = after ?? before;
        if (sample === null || kindOf(sample) !== subscription.kind) continue;
        const was = before !== null && subscription.matches(before) ? before : null;
        const is = after !== null && subscription.matches(after) ? after : null;
        if (is !== null) events.push({ type: was === null ? "added" : "modified", object: is });
        else if (was !== null) events.push({ type: "deleted", object: was });
      }
      if (events.length > 0) subscription.handler.onEvents(events);
    }
  }
}

function matcher(options: ListOptions): (object: KubeObject) => boolean {
  const { namespace, labelSelector, fieldSelector } = options;
  const labels = labelSelector === undefined ? null : parseLabelSelector(labelSelector);
  const fields = fieldSelector === undefined ? null : parseFieldSelector(fieldSelector);
  return (object) =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (labels === null || labels(object.metadata.labels)) &&
    (fields === null || fields(object));
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw new KubeError("IO", `Cannot read ${file}: ${String(error)}`, { file, cause: error });
  }
}
