// What only one replica does: writing into the cluster. On Kubernetes each task has a lock of its own;
// over a directory, or alone, every istiod leads.
import type { Clock } from "#lib/base/clock.ts";
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { ElectionTiming } from "#lib/kube/api-server/leader-election.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import { AddressAllocator } from "./allocate/address-allocator.ts";
import type { Config } from "./config.ts";
import type { LeaderTask } from "./leader-task.ts";
import type { Metrics } from "./metrics.ts";
import { NodeUntainter } from "./nodes/node-untainter.ts";
import { RootConfigMaps } from "./roots/root-config-maps.ts";
import { StatusWriter } from "./status/status-writer.ts";
import type { MeshTranslator } from "./translate/translator.ts";
import type { MalformedObjects } from "./watch/malformed-objects.ts";

export interface LeaderTasksOptions {
  readonly config: Config;
  /** Borrowed. */
  readonly cluster: Cluster;
  /** The same cluster, if it is an API server. */
  readonly api: ApiServerCluster | null;
  readonly translator: MeshTranslator;
  readonly malformed: MalformedObjects;
  /** The root bundle in force; `null` while there is none. */
  readonly rootPem: () => string | null;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly clock: Clock;
  /** Default: Istio's, 30 s, 15 s and 7.5 s. */
  readonly timing?: ElectionTiming | undefined;
}

/** Before a task that failed leads again. */
const RETRY_MS = 1_000;

export class LeaderTasks {
  readonly #options: LeaderTasksOptions;
  readonly #status: StatusWriter | null;
  readonly #allocator: AddressAllocator | null;
  readonly #roots: RootConfigMaps | null;
  readonly #tasks: LeaderTask[] = [];

  constructor(options: LeaderTasksOptions) {
    const { config, api, translator, rootPem } = options;
    const { allocation: prefixes, writesStatus, rootConfigMap, untaint } = config;
    const isSelected = (namespace: string): boolean => translator.isSelected(namespace);
    this.#options = options;
    this.#status = writesStatus ? new StatusWriter({ ...options, source: translator }) : null;
    this.#allocator =
      prefixes === null ? null : new AddressAllocator({ ...options, prefixes, isSelected });
    this.#roots =
      api === null
        ? null
        : new RootConfigMaps({ ...options, api, name: rootConfigMap, rootPem, isSelected });
    const untainter =
      api === null || untaint === null ? null : new NodeUntainter({ ...options, ...untaint });
    for (const task of [this.#status, this.#allocator, this.#roots, untainter])
      if (task !== null) this.#tasks.push(task);
  }

  /** More of them, before `run`. */
  add(...tasks: readonly LeaderTask[]): void {
    this.#tasks.push(...tasks);
  }

  /**
   * Takes part in the election of each task until `signal` aborts, and gives up the locks it holds
   * then. Call when the tables are complete. Never rejects.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { api, config, log, clock, metrics, timing } = this.#options;
    for (const { lock } of this.#tasks) metrics.leader.set({ lock }, 0);
    if (api === null || !config.electsLeader) return this.lead(signal);
    const { electLeader } = await import("#lib/kube/api-server/leader-election.ts");
    const elections = this.#tasks.map((task) =>
      electLeader({
        cluster: api,
        namespace: config.namespace,
        name: task.lock,
        lock: task.lockKind,
        identity: config.podName,
        holderKey: config.revision === "" ? "default" : config.revision,
        signal,
        onLead: (term) => this.#term(task, term),
        log,
        clock,
        ...(timing === undefined ? {} : { timing }),
      }),
    );
    await Promise.all(elections);
  }

  /** Leads all tasks until `signal` aborts; may lead again later. */
  async lead(signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.#tasks.map(async (task) => {
        while (!signal.aborted) await this.#term(task, signal);
      }),
    );
  }

  /**
   * Call after each update of the tables, leader or not.
   * @returns whether other namespaces are selected now
   */
  updated(): boolean {
    const changed = this.#options.translator.takeConditionChanges();
    this.#status?.changed(changed);
    if (!this.#options.translator.takeSelectionChange()) return false;
    this.#allocator?.reconsider();
    this.#roots?.reconsider();
    return true;
  }

  /** Call when an object became malformed, or is no longer. */
  malformedChanged(key: string): void {
    this.#status?.changed([key]);
  }

  /** Call when `rootPem` has another answer. */
  rootChanged(): void {
    this.#roots?.reconsider();
  }

  async #term(task: LeaderTask, signal: AbortSignal): Promise<void> {
    const { log, clock, metrics } = this.#options;
    const { lock } = task;
    metrics.leader.set({ lock }, 1);
    try {
      log.info({ task: lock }, "leading");
      await task.lead(signal);
    } catch (error) {
      log.error({ task: lock, error }, "leader task failed; it starts again");
    } finally {
      metrics.leader.set({ lock }, 0);
    }
    // Also for one that returned early: a term is not a thing to spin on.
    if (!signal.aborted) await clock.sleep(RETRY_MS, signal);
  }
}
