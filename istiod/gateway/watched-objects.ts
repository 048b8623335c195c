// The objects of one watch, by `namespace/name`, as they are now.
import type { Cluster, KubeObject, ListOptions, Resource } from "#lib/kube/cluster.ts";
import { objectName } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";

export interface WatchedOptions<T extends KubeObject> {
  readonly resource: Resource<T>;
  readonly select?: ListOptions;
  /** After each change and once the first objects are complete; `undefined` is absence. */
  onChange?(now: T | undefined, old: T | undefined): void;
  onSynced?(): void;
}

export class WatchedObjects<T extends KubeObject> {
  readonly objects = new Map<string, T>();
  readonly #options: WatchedOptions<T>;
  #isSynced = false;
  #isFailing = false;

  constructor(options: WatchedOptions<T>) {
    this.#options = options;
  }

  /** Everything there was at the start is known. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Watches until `signal` aborts. Never rejects. */
  async run(cluster: Cluster, log: Logger, signal: AbortSignal): Promise<void> {
    const { resource, select, onChange, onSynced } = this.#options;
    const handler = {
      onEvents: (events: readonly { readonly type: string; readonly object: T }[]): void => {
        this.#isFailing = false;
        for (const { type, object } of events) {
          const key = objectName(object);
          const old = this.objects.get(key);
          if (type === "deleted") this.objects.delete(key);
          else this.objects.set(key, object);
          onChange?.(type === "deleted" ? undefined : object, old);
        }
      },
      onSynced: (): void => {
        this.#isSynced = true;
        onSynced?.();
      },
      onError: (error: Error): void => {
        log[this.#isFailing ? "debug" : "warn"]({ kind: resource.kind, error }, "watch failed");
        this.#isFailing = true;
      },
    };
    await cluster.watch(resource, handler, { ...select, signal });
  }

  /**
   * Takes an object as a write returned it, unless the watch has brought a newer one. Says nothing:
   * whoever wrote it knows.
   */
  learn(object: T): void {
    const key = objectName(object);
    const known = this.objects.get(key);
    if (known !== undefined && isNewer(known, object)) return;
    this.objects.set(key, object);
  }
}

/** Versions of one kind are rising numbers; anything else is never newer. */
function isNewer(a: KubeObject, b: KubeObject): boolean {
  const [x, y] = [a.metadata.resourceVersion ?? "", b.metadata.resourceVersion ?? ""];
  if (!/^\d+$/.test(x) || !/^\d+$/.test(y)) return false;
  return x.length === y.length ? x > y : x.length > y.length;
}
