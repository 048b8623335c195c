// Watches of one resource with the same selectors share one reflector: one list, one connection, one copy
// of the objects. It begins with the first watcher and ends with the last.
import type { Clock, Random } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { KubeObject, ListOptions, Resource, WatchHandler } from "../cluster.ts";
import { RESOURCES } from "../objects.ts";
import type { ApiServer } from "./api-server.ts";
import { CrdNotices } from "./crd-notices.ts";
import { Reflector } from "./reflector.ts";
import type { ServedVersions } from "./served-versions.ts";
import type { Keeps } from "./strip.ts";
import { Watchers } from "./watchers.ts";

export interface SharedWatchesOptions {
  readonly apiServer: ApiServer;
  readonly versions: ServedVersions;
  readonly keeps: Keeps;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

type WatchOptions = ListOptions & { readonly signal: AbortSignal };

interface SharedWatch {
  readonly reflector: Reflector;
  readonly watchers: Watchers;
  readonly controller: AbortController;
  readonly done: Promise<void>;
}

export class SharedWatches {
  readonly #options: SharedWatchesOptions;
  readonly #crds: CrdNotices;
  readonly #watches = new Map<string, SharedWatch>();
  /** Watches of callers, not our own of the CRDs. */
  #callers = 0;

  constructor(options: SharedWatchesOptions) {
    this.#options = options;
    this.#crds = new CrdNotices(
      (handler, signal) =>
        this.#follow(RESOURCES.customResourceDefinitions, handler, { signal }, null),
      options.clock,
    );
  }

  /** Until the signal aborts. Rejects only with what `handler` throws. */
  async watch(
    resource: Resource,
    handler: WatchHandler<KubeObject>,
    options: WatchOptions,
  ): Promise<void> {
    this.#callers++;
    try {
      await this.#follow(resource, handler, options, this.#crds);
    } finally {
      if (--this.#callers === 0) await this.#crds.stop();
    }
  }

  async #follow(
    resource: Resource,
    handler: WatchHandler<KubeObject>,
    options: WatchOptions,
    crds: CrdNotices | null,
  ): Promise<void> {
    const { signal, ...selection } = options;
    if (signal.aborted) return;
    const { group, version, plural } = resource;
    const { namespace, labelSelector, fieldSelector } = selection;
    const key = JSON.stringify([group, version, plural, namespace, labelSelector, fieldSelector]);
    const watch = this.#watches.get(key) ?? this.#start(key, resource, selection, crds);
    try {
      await watch.watchers.watch(
        this.#reporting(resource, handler),
        (to) => watch.reflector.greet(to),
        signal,
      );
    } finally {
      if (watch.watchers.size === 0) {
        if (this.#watches.get(key) === watch) this.#watches.delete(key);
        watch.controller.abort();
        await watch.done;
      }
    }
  }

  #start(
    key: string,
    resource: Resource,
    selection: ListOptions,
    crds: CrdNotices | null,
  ): SharedWatch {
    const { log: _, ...shared } = this.#options;
    const watchers = new Watchers();
    const controller = new AbortController();
    const reflector = new Reflector({ ...shared, resource, selection, crds, watchers });
    // Only a defect of ours ends it early: then those who watch must hear of it.
    const done = reflector.run(controller.signal).catch((error: unknown) => {
      this.#watches.delete(key);
      watchers.failAll(error);
    });
    const watch = { reflector, watchers, controller, done };
    this.#watches.set(key, watch);
    return watch;
  }

  /** Faults that nobody wants to hear of are logged. */
  #reporting(resource: Resource, handler: WatchHandler<KubeObject>): WatchHandler<KubeObject> {
    return {
      onEvents: (events) => handler.onEvents(events),
      onSynced: () => handler.onSynced(),
      onError: (error) => {
        if (handler.onError !== undefined) handler.onError(error);
        else this.#options.log.warn({ error, kind: resource.kind }, "watch disturbed");
      },
    };
  }
}
