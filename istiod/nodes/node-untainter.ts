// Lets pods onto nodes whose CNI agent is ready: takes the start-up taint off.
// Source: istio pilot/pkg/controllers/untaint.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster, WatchEvent } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type Node, type Pod, RESOURCES } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { LeaderTask } from "../leader-task.ts";

export interface NodeUntainterOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  /** Key of the taint. */
  readonly taint: string;
  /** Where the CNI agents run. */
  readonly namespace: string;
  readonly log: Logger;
  readonly clock: Clock;
}

const AGENTS = "k8s-app=istio-cni-node";
const FIELD_MANAGER = "istio-node-untaint";

export class NodeUntainter implements LeaderTask {
  readonly lock = "istio-node-untaint";
  readonly lockKind = "configMap";
  readonly #options: NodeUntainterOptions;
  readonly #queue: WorkQueue<string>;
  /** Agent pod → node, of agents that are ready. */
  readonly #ready = new Map<string, string>();
  readonly #tainted = new Set<string>();

  constructor(options: NodeUntainterOptions) {
    this.#options = options;
    this.#queue = new WorkQueue({
      handle: (node) => this.#untaint(node),
      onGivenUp: (node, error) => options.log.warn({ node, error }, "taint cannot be taken off"),
      clock: options.clock,
    });
  }

  async lead(signal: AbortSignal): Promise<void> {
    const { cluster, namespace, log } = this.#options;
    this.#ready.clear();
    this.#tainted.clear();
    const onError = (error: Error): void => log.warn({ error }, "cannot read nodes and CNI agents");
    const onSynced = (): void => {};
    const onNodes = (events: readonly WatchEvent<Node>[]): void => {
      for (const event of events) this.#onNode(event);
    };
    const onPods = (events: readonly WatchEvent<Pod>[]): void => {
      for (const event of events) this.#onAgent(event);
    };
    await Promise.all([
      this.#queue.run([], signal),
      cluster.watch(RESOURCES.nodes, { onEvents: onNodes, onSynced, onError }, { signal }),
      cluster.watch(
        RESOURCES.pods,
        { onEvents: onPods, onSynced, onError },
        { namespace, labelSelector: AGENTS, signal },
      ),
    ]);
  }

  #onNode({ type, object }: WatchEvent<Node>): void {
    const { name } = object.metadata;
    const isTainted = object.spec?.taints?.some(({ key }) => key === this.#options.taint) ?? false;
    if (type !== "deleted" && isTainted) this.#tainted.add(name);
    else this.#tainted.delete(name);
    this.#consider(name);
  }

  #onAgent({ type, object }: WatchEvent<Pod>): void {
    const { name, deletionTimestamp } = object.metadata;
    const node = object.spec?.nodeName;
    const isReady =
      type !== "deleted" &&
      deletionTimestamp === undefined &&
      (object.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false);
    if (node === undefined || !isReady) {
      this.#ready.delete(name);
      return;
    }
    this.#ready.set(name, node);
    this.#consider(node);
  }

  #consider(node: string): void {
    if (this.#tainted.has(node) && [...this.#ready.values()].includes(node)) this.#queue.add(node);
  }

  async #untaint(name: string): Promise<void> {
    const { cluster, taint, log } = this.#options;
    if (!this.#tainted.has(name)) return;
    const live = await cluster.get(RESOURCES.nodes, null, name);
    const taints = live?.spec?.taints ?? [];
    const left = taints.filter(({ key }) => key !== taint);
    if (live === null || left.length === taints.length) return;
    const { resourceVersion } = live.metadata;
    try {
      // The version guards the other taints, which are replaced along with ours.
      const patch = { metadata: { resourceVersion }, spec: { taints: left } };
      await cluster.patch(RESOURCES.nodes, null, name, patch, { fieldManager: FIELD_MANAGER });
    } catch (error) {
      if (error instanceof KubeError && error.code === "NOT_FOUND") return;
      throw error;
    }
    log.info({ node: name, taint }, "CNI agent is ready: taint taken off");
  }
}
