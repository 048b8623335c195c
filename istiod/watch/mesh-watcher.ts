// Feeds the translator: watches every kind the tables are made of, waits until all of them are
// known, and then hands each change on in the turn it arrived.
import type { Cluster, KubeObject, Resource, WatchEvent } from "#lib/kube/cluster.ts";
import { type Pod, RESOURCES } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { TranslateConfig } from "../translate/config.ts";
import { WATCHED } from "../translate/inputs.ts";
import type { MeshDelta, ObjectChange } from "../translate/mesh.ts";
import type { MeshTranslator } from "../translate/translator.ts";
import type { MalformedObjects } from "./malformed-objects.ts";

export interface MeshWatcherOptions {
  /** Borrowed while `run` lasts. */
  readonly cluster: Cluster;
  readonly translator: MeshTranslator;
  /** Told of objects that cannot be read. */
  readonly malformed?: MalformedObjects;
  readonly log: Logger;
  /** Pods as they come, before the tables have them: one watch serves all. */
  onPods?(events: readonly WatchEvent<Pod>[]): void;
  /** Called right after the tables have changed, in the same turn; not for changes of nothing. */
  onDelta(delta: MeshDelta): void;
  /** Called after each update of the tables, also one that changed nothing of what is sent. */
  onUpdated?(): void;
  /** Called once, when the tables are complete; deltas before it are part of the first state. */
  onSynced?(): void;
  /** For a metric. The same error is reported once, however many watches see it. */
  onError?(error: Error): void;
}

/** A failed pod is no workload and proves nothing: the API server need not send it. */
const LIVE_PODS = "status.phase!=Failed";

export class MeshWatcher {
  readonly #options: MeshWatcherOptions;
  readonly #unsynced = new Set<Resource>(WATCHED);
  #pending: ObjectChange[] = [];
  #flush: NodeJS.Immediate | null = null;
  #isSynced = false;
  readonly #reported = new WeakSet<Error>();

  constructor(options: MeshWatcherOptions) {
    this.#options = options;
  }

  /** False until every kind is known: serving before that would tell clients that things are gone. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Kinds still awaited, for the readiness page. */
  get awaited(): readonly string[] {
    return [...this.#unsynced].map((resource) => resource.plural);
  }

  /**
   * Derives everything again under another configuration.
   * @throws {KubeError} `INVALID` for one that cannot be compiled; then nothing has changed
   */
  reconfigure(config: TranslateConfig): void {
    this.#updated(this.#options.translator.reconfigure(config));
  }

  /** Watches until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await Promise.all(WATCHED.map((resource) => this.#watch(resource, signal)));
    } finally {
      if (this.#flush !== null) clearImmediate(this.#flush);
      this.#flush = null;
    }
  }

  #watch(resource: Resource, signal: AbortSignal): Promise<void> {
    return this.#options.cluster.watch(
      resource,
      {
        onEvents: (events) => this.#collect(resource, events),
        onSynced: () => this.#onKindSynced(resource),
        onError: (error) => {
          this.#options.malformed?.note(resource, error);
          this.#report(error);
        },
      },
      resource === RESOURCES.pods ? { signal, fieldSelector: LIVE_PODS } : { signal },
    );
  }

  #collect(resource: Resource, events: readonly WatchEvent<KubeObject>[]): void {
    this.#options.malformed?.read(resource, events);
    for (const { type, object } of events) this.#pending.push({ resource, type, object });
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only this kind comes from this watch
    if (resource === RESOURCES.pods) this.#options.onPods?.(events as readonly WatchEvent<Pod>[]);
    if (this.#isSynced) this.#schedule();
  }

  #onKindSynced(resource: Resource): void {
    this.#unsynced.delete(resource);
    if (this.#unsynced.size > 0 || this.#isSynced) return;
    this.#isSynced = true;
    this.#update();
    const { addresses, authorizations } = this.#sizes();
    this.#options.log.info({ addresses, authorizations }, "cluster state is complete");
    this.#options.onSynced?.();
  }

  /** One change of a file may touch several kinds: they come in one turn and are one update. */
  #schedule(): void {
    this.#flush ??= setImmediate(() => {
      this.#flush = null;
      this.#update();
    });
  }

  #update(): void {
    const changes = this.#pending;
    this.#pending = [];
    this.#updated(this.#options.translator.update(changes));
  }

  #updated(delta: MeshDelta): void {
    const { translator, log, onDelta, onUpdated } = this.#options;
    for (const { table, input, error } of translator.takeFaults()) {
      log.error({ table, object: input, error }, "object cannot be translated");
      this.#options.onError?.(error instanceof Error ? error : new Error(String(error)));
    }
    if (!isEmpty(delta)) onDelta(delta);
    onUpdated?.();
  }

  #report(error: Error): void {
    if (this.#reported.has(error)) return;
    this.#reported.add(error);
    this.#options.log.warn({ error }, "cluster state cannot be read in full");
    this.#options.onError?.(error);
  }

  #sizes(): { addresses: number; authorizations: number } {
    const { translator } = this.#options;
    return {
      addresses: translator.addresses().size,
      authorizations: translator.authorizations().size,
    };
  }
}

function isEmpty({ addresses, authorizations, waypointPolicies, services }: MeshDelta): boolean {
  return (
    addresses.updated.length +
      addresses.removed.length +
      authorizations.updated.length +
      authorizations.removed.length +
      waypointPolicies.updated.length +
      waypointPolicies.removed.length +
      services.length ===
    0
  );
}
