// `Cluster` over a directory of manifests: the embedded stand-in for an API server. Reads follow the
// files within milliseconds; writes are atomic and serialised across processes.
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
import { applied, patched } from "./apply.ts";
import { DirectoryWatch } from "./directory-watch.ts";
import { DirectoryWriter } from "./directory-writer.ts";
import { KubeError } from "./errors.ts";
import { isJsonObject, type JsonObject } from "./json.ts";
import { parseFieldSelector, parseLabelSelector } from "./labels.ts";
import { keyFor } from "./manifest.ts";
import { kindOf, ManifestStore } from "./manifest-store.ts";
import { kindKey } from "./objects.ts";
import { type ObjectName, shown } from "./stamp.ts";
import type { StoreUpdate } from "./store-update.ts";

export interface DirectoryClusterOptions {
  /** How often everything is looked at again, should the kernel have lost an event. */
  readonly sweepMs?: number;
  /** How long a writer waits for other writers. */
  readonly lockTimeoutMs?: number;
  /** Milliseconds since the epoch, for tests. */
  readonly now?: () => number;
}

interface Subscription {
  readonly kind: string;
  readonly matches: (object: KubeObject) => boolean;
  readonly handler: WatchHandler<KubeObject>;
}

const DEFAULT_SWEEP_MS = 10_000;
/** Between looks for a directory that is not there yet. */
const RETRY_MS = 200;

export class DirectoryCluster implements Cluster {
  readonly dir: string;
  readonly #store: ManifestStore;
  readonly #writer: DirectoryWriter;
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

  constructor(dir: string, options: DirectoryClusterOptions = {}) {
    this.dir = dir;
    this.#store = new ManifestStore(dir);
    this.#sweepMs = options.sweepMs ?? DEFAULT_SWEEP_MS;
    this.#writer = new DirectoryWriter({
      store: this.#store,
      lockTimeoutMs: options.lockTimeoutMs ?? null,
      now: options.now ?? Date.now,
      fresh: () => this.#fresh(),
      publish: (update) => this.#publish(update),
    });
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
    const { name, namespace = null } = object.metadata;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a plain object by contract
    const given = structuredClone(object) as unknown as JsonObject;
    return this.#write({ resource, namespace, name }, options, (current) =>
      applied(current, given, options),
    );
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
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a plain object by contract
    const given = structuredClone(patch) as JsonObject;
    return this.#write({ resource, namespace, name }, options, (current) => {
      if (current === null)
        throw new KubeError("NOT_FOUND", `No ${resource.kind} ${shown(namespace, name)} to patch`);
      expectVersion(current, given, `${resource.kind} ${shown(namespace, name)}`);
      return patched(current, given, options);
    });
  }

  async delete(resource: Resource, namespace: string | null, name: string): Promise<void> {
    await this.#writer.delete(named({ resource, namespace, name }));
  }

  async #write<T extends KubeObject>(
    of: ObjectName & { readonly resource: Resource<T> },
    options: PatchOptions,
    change: (current: JsonObject | null) => JsonObject,
  ): Promise<T> {
    const written = await this.#writer.write(named(of), change, options.subresource === "status");
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- parsed as this kind
    return written as T;
  }

  #find<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
  ): T | null {
    const key = keyFor(resource, named({ resource, namespace, name }).namespace, name);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- parsed as this kind
    return this.#store.get(kindKey(resource), key) as T | null;
  }

  /** Makes reads see what other processes wrote: free while a watch keeps the store current. */
  async #fresh(): Promise<void> {
    if (!this.#live) await this.#rescan();
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

/** Optimistic concurrency, as an API server has it: for writers that replace what they have read. */
function expectVersion(current: JsonObject, patch: JsonObject, name: string): void {
  const wanted = isJsonObject(patch.metadata) ? patch.metadata.resourceVersion : undefined;
  if (wanted === undefined || wanted === "") return;
  const found = isJsonObject(current.metadata) ? current.metadata.resourceVersion : undefined;
  if (found !== wanted)
    throw new KubeError(
      "CONFLICT",
      `${name} has resourceVersion ${JSON.stringify(found)}, the patch was made for ${JSON.stringify(wanted)}`,
    );
}

/** As an API server's client: a namespaced object without namespace is in `default`. */
function named(of: ObjectName): ObjectName {
  return { ...of, namespace: of.resource.namespaced ? (of.namespace ?? "default") : null };
}
