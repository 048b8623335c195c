// Tells every namespace whom to trust: ConfigMap `istio-ca-root-cert` holds the root bundle, which pods
// mount. Source: istio pilot/pkg/serviceregistry/kube/controller/namespacecontroller.go.
import type { Clock } from "#lib/base/clock.ts";
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { WatchEvent } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type ConfigMap, type Namespace, RESOURCES } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { LeaderTask } from "../leader-task.ts";

export interface RootConfigMapsOptions {
  /** Borrowed. */
  readonly api: ApiServerCluster;
  /** Of the ConfigMaps. */
  readonly name: string;
  /** The root bundle in force. */
  readonly rootPem: () => string | null;
  /** Other namespaces are left as they are (`discoverySelectors`). */
  isSelected(namespace: string): boolean;
  readonly log: Logger;
  readonly clock: Clock;
}

const KEY = "root-cert.pem";
const FIELD_MANAGER = "istiod";
/** Nobody runs pods there. `kube-system` is none of them. */
const SKIPPED: ReadonlySet<string> = new Set([
  "kube-public",
  "kube-node-lease",
  "local-path-storage",
]);
/** The namespace is ending or gone, or somebody was first: its event, if any, brings the key back. */
const PASSING: ReadonlySet<string> = new Set(["ALREADY_EXISTS", "NOT_FOUND", "FORBIDDEN"]);

export class RootConfigMaps implements LeaderTask {
  readonly lock = "istio-namespace-controller-election";
  readonly lockKind = "configMap";
  readonly #options: RootConfigMapsOptions;
  readonly #queue: WorkQueue<string>;
  readonly #namespaces = new Set<string>();
  /** Namespace → what its ConfigMap says; `null` without our key. */
  readonly #found = new Map<string, string | null>();
  #unsynced = 2;

  constructor(options: RootConfigMapsOptions) {
    this.#options = options;
    this.#queue = new WorkQueue({
      handle: (namespace) => this.#write(namespace),
      onGivenUp: (namespace, error) =>
        options.log.warn({ namespace, error }, "root certificate cannot be published"),
      clock: options.clock,
    });
  }

  async lead(signal: AbortSignal): Promise<void> {
    const { api, name, log } = this.#options;
    this.#namespaces.clear();
    this.#found.clear();
    this.#unsynced = 2;
    const onSynced = (): void => {
      if (--this.#unsynced === 0) this.reconsider();
    };
    const onError = (error: Error): void =>
      log.warn({ error }, "cannot read namespaces and their root certificates");
    const onNamespaces = (events: readonly WatchEvent<Namespace>[]): void => {
      for (const event of events) this.#onNamespace(event);
    };
    const onConfigMaps = (events: readonly WatchEvent<ConfigMap>[]): void => {
      for (const event of events) this.#onConfigMap(event);
    };
    const named = { fieldSelector: `metadata.name=${name}`, signal };
    await Promise.all([
      this.#queue.run([], signal),
      api.watch(RESOURCES.namespaces, { onEvents: onNamespaces, onSynced, onError }, { signal }),
      api.watch(RESOURCES.configMaps, { onEvents: onConfigMaps, onSynced, onError }, named),
    ]);
  }

  /** The bundle or the selection of namespaces may be another one now. */
  reconsider(): void {
    if (this.#unsynced > 0) return;
    for (const namespace of this.#namespaces) this.#queue.add(namespace);
  }

  #onNamespace({ type, object }: WatchEvent<Namespace>): void {
    const { name, deletionTimestamp } = object.metadata;
    const isEnding = deletionTimestamp !== undefined || object.status?.phase === "Terminating";
    if (type === "deleted" || isEnding) this.#namespaces.delete(name);
    else this.#namespaces.add(name);
    this.#due(name);
  }

  #onConfigMap({ type, object }: WatchEvent<ConfigMap>): void {
    const { namespace = "" } = object.metadata;
    if (type === "deleted") this.#found.delete(namespace);
    else this.#found.set(namespace, object.data?.[KEY] ?? null);
    this.#due(namespace);
  }

  /** Before everything is known, an object that has not arrived looks like one to create. */
  #due(namespace: string): void {
    if (this.#unsynced === 0) this.#queue.add(namespace);
  }

  async #write(namespace: string): Promise<void> {
    const { api, name, rootPem, isSelected, log } = this.#options;
    const pem = rootPem();
    if (pem === null || SKIPPED.has(namespace)) return;
    if (!this.#namespaces.has(namespace) || !isSelected(namespace)) return;
    const found = this.#found.get(namespace);
    if (found === pem) return;
    const data = { [KEY]: pem };
    const options = { fieldManager: FIELD_MANAGER };
    try {
      if (found === undefined)
        await api.create(
          RESOURCES.configMaps,
          {
            apiVersion: "v1",
            kind: "ConfigMap",
            metadata: { name, namespace, labels: { "istio.io/config": "true" } },
            data,
          },
          options,
        );
      // Other keys are somebody else's.
      else await api.patch(RESOURCES.configMaps, namespace, name, { data }, options);
    } catch (error) {
      if (!(error instanceof KubeError && PASSING.has(error.code))) throw error;
      log.debug({ namespace, reason: error.code }, "root certificate not published now");
      return;
    }
    log.debug({ namespace, was: found === undefined ? "absent" : "other" }, "root published");
  }
}
