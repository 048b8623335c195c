// This room put together: what every replica does, and what only leaders do.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import { type LeaderTask, type ReplicaTask, revisionLock } from "../leader-task.ts";
import type { Metrics } from "../metrics.ts";
import { ClassKeeper, type Creator } from "./class-keeper.ts";
import { Deployer } from "./deployer.ts";
import { GatewayCache } from "./gateway-cache.ts";
import type { GatewaySettings, ProgramImage } from "./settings.ts";
import { StatusPublisher } from "./status-publisher.ts";

export interface GatewayTasksOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  /** The same cluster, if it is an API server; without one nothing is deployed, only statuses are written. */
  readonly api: Creator | null;
  /** Asked each time: the mesh configuration may change. */
  readonly settings: () => GatewaySettings;
  /** What waypoints run from; `null`: what `pod`, which is ours, runs from. */
  readonly program: ProgramImage | null;
  readonly pod: { readonly namespace: string; readonly name: string };
  isSelected(namespace: string): boolean;
  readonly metrics: Pick<Metrics, "statusWrites">;
  readonly log: Logger;
  readonly clock: Clock;
}

export class GatewayTasks implements ReplicaTask {
  readonly name = "gateways";
  /** For the election. They wait for `run`, which must be running. */
  readonly leaderTasks: readonly LeaderTask[];
  readonly #cache: GatewayCache;
  readonly #classes: ClassKeeper | null;

  constructor(options: GatewayTasksOptions) {
    const { api, settings } = options;
    const { revision } = settings();
    const cache = new GatewayCache({ ...options, isDeploying: api !== null });
    this.#cache = cache;
    this.#classes = api === null ? null : new ClassKeeper({ ...options, cluster: api, cache });
    const lock = (name: string): string => revisionLock(name, revision);
    this.leaderTasks = [
      ...(api === null
        ? []
        : [new Deployer({ ...options, cache, lock: lock("istio-gateway-deployment") })]),
      new StatusPublisher({ ...options, cache, lock: lock("istio-gateway-status-leader") }),
    ];
  }

  /** Watches, and makes missing GatewayClasses, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#cache.run(signal), this.#classes?.run(signal)]);
  }

  /** Call when `settings` or `isSelected` has another answer. */
  reconsider(): void {
    this.#cache.reconsider();
  }
}
