// Objects that only a few Gateways name, each with a watch of its own for as long as one does: cheaper
// than to hold all ConfigMaps of a cluster.
import type { Cluster, KubeObject, ListOptions, Resource } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import { WatchedObjects } from "./watched-objects.ts";

/** A watch that someone wants. */
export interface Follow {
  /** Equal for equal watches. */
  readonly key: string;
  readonly resource: Resource;
  readonly select: ListOptions;
}

export interface FollowedOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly log: Logger;
  /** What the owner (a Gateway's key) follows is not what it was. */
  onChange(owner: string): void;
}

interface Entry {
  readonly watched: WatchedObjects<KubeObject>;
  readonly stop: AbortController;
  readonly owners: Set<string>;
}

export class FollowedObjects {
  readonly #options: FollowedOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #running = new Set<Promise<void>>();

  constructor(options: FollowedOptions) {
    this.#options = options;
  }

  /** `owner` follows these and nothing else from now on. */
  set(owner: string, follows: readonly Follow[]): void {
    const wanted = new Set(follows.map((f) => f.key));
    for (const [key, entry] of this.#entries) {
      if (wanted.has(key) || !entry.owners.delete(owner) || entry.owners.size > 0) continue;
      entry.stop.abort();
      this.#entries.delete(key);
    }
    for (const follow of follows) this.#follow(owner, follow);
  }

  /** @returns `undefined` when nobody follows this, or its objects are not known yet */
  objects(key: string): ReadonlyMap<string, KubeObject> | undefined {
    const watched = this.#entries.get(key)?.watched;
    return watched?.isSynced === true ? watched.objects : undefined;
  }

  /** Ends all watches. */
  async stop(): Promise<void> {
    for (const entry of this.#entries.values()) entry.stop.abort();
    this.#entries.clear();
    await Promise.all(this.#running);
  }

  #follow(owner: string, { key, resource, select }: Follow): void {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      known.owners.add(owner);
      return;
    }
    const { cluster, log, onChange } = this.#options;
    const owners = new Set([owner]);
    const changed = (): void => {
      if (watched.isSynced) for (const each of owners) onChange(each);
    };
    const watched = new WatchedObjects({ resource, select, onChange: changed, onSynced: changed });
    const entry: Entry = { watched, owners, stop: new AbortController() };
    this.#entries.set(key, entry);
    const running = watched
      .run(cluster, log, entry.stop.signal)
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}
