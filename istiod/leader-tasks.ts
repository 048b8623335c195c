// What only one replica does: writing into the cluster. Over a directory every istiod leads; whoever
// elects a leader calls `lead` with a signal that ends with the leadership.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import { AddressAllocator } from "./allocate/address-allocator.ts";
import type { Config } from "./config.ts";
import type { Metrics } from "./metrics.ts";
import { StatusWriter } from "./status/status-writer.ts";
import type { MeshTranslator } from "./translate/translator.ts";

export interface LeaderTasksOptions {
  readonly config: Config;
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly translator: MeshTranslator;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly clock: Clock;
}

export class LeaderTasks {
  readonly #translator: MeshTranslator;
  readonly #status: StatusWriter | null;
  readonly #allocator: AddressAllocator | null;

  constructor(options: LeaderTasksOptions) {
    const { config, translator } = options;
    const { allocation: prefixes, writesStatus } = config;
    const isSelected = (namespace: string): boolean => translator.isSelected(namespace);
    this.#translator = translator;
    this.#status = writesStatus ? new StatusWriter({ ...options, source: translator }) : null;
    this.#allocator =
      prefixes === null ? null : new AddressAllocator({ ...options, prefixes, isSelected });
  }

  /** Works until `signal` ends the leadership; may lead again later. Call when the tables are complete. */
  async lead(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#status?.lead(signal), this.#allocator?.lead(signal)]);
  }

  /** Call after each update of the tables, leader or not. */
  updated(): void {
    const changed = this.#translator.takeConditionChanges();
    this.#status?.changed(changed);
    if (this.#translator.takeSelectionChange()) this.#allocator?.reconsider();
  }
}
