// Writes the conditions that the tables derive into the objects they are about, while it leads.
// Source: istio pilot/pkg/serviceregistry/ambient/statusqueue.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { Condition } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { Metrics } from "../metrics.ts";
import type { ObjectConditions } from "../translate/status.ts";
import { mergeConditions } from "./merge-conditions.ts";
import { patchStatus } from "./patch-status.ts";

/** What the translator knows, by `Kind/namespace/name`. */
export interface ConditionSource {
  conditionKeys(): Iterable<string>;
  /** `undefined`: the object is gone, or none of our business any more; its status stays as it is. */
  conditionsOf(key: string): ObjectConditions | undefined;
}

export interface StatusWriterOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly source: ConditionSource;
  readonly metrics: Pick<Metrics, "statusWrites">;
  readonly log: Logger;
  readonly clock: Clock;
}

interface WithConditions extends KubeObject {
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/** Ours on objects of each kind, whichever of them holds now: a policy may turn from one to the other. */
const OWNED: Readonly<Record<string, ReadonlySet<string>>> = {
  Service: new Set(["istio.io/WaypointBound"]),
  ServiceEntry: new Set([
    "istio.io/WaypointBound",
    "istio.io/WaypointMissing",
    "istio.io/VisibilityApplied",
  ]),
  WorkloadEntry: new Set(["istio.io/WaypointBound"]),
  AuthorizationPolicy: new Set(["ZtunnelAccepted", "WaypointAccepted"]),
};
const NONE: ReadonlySet<string> = new Set();

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #queue: WorkQueue<string>;
  /** A directory that cannot be written to is said once, not once per object. */
  #isFailing = false;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    this.#queue = new WorkQueue({
      handle: (key) => this.#write(key),
      onGivenUp: (key, error) => this.#giveUp(key, error),
      clock: options.clock,
    });
  }

  /** The conditions of these objects may be others now. Costs nothing while another replica leads. */
  changed(keys: Iterable<string>): void {
    for (const key of keys) this.#queue.add(key);
  }

  /** Looks at every object once, then at those that change, until `signal` ends the leadership. */
  lead(signal: AbortSignal): Promise<void> {
    return this.#queue.run(this.#options.source.conditionKeys(), signal);
  }

  async #write(key: string): Promise<void> {
    const { cluster, source, clock, metrics } = this.#options;
    const wanted = source.conditionsOf(key);
    if (wanted === undefined) return;
    const { resource, namespace, name, conditions, fieldManager } = wanted;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- all of these kinds have conditions
    const kind = resource as Resource<WithConditions>;
    const live = await cluster.get(kind, namespace, name);
    if (live === null) return;
    const now = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
    const owned = OWNED[resource.kind] ?? NONE;
    const merged = mergeConditions(live.status?.conditions ?? [], conditions, owned, now);
    if (merged === null) return;
    const isThere = await patchStatus(cluster, kind, live, { conditions: merged }, fieldManager);
    if (!isThere) return;
    metrics.statusWrites.inc({ result: "written" });
    this.#isFailing = false;
  }

  #giveUp(key: string, error: unknown): void {
    const { log, metrics } = this.#options;
    metrics.statusWrites.inc({ result: "failed" });
    log[this.#isFailing ? "debug" : "warn"]({ object: key, error }, "status cannot be written");
    this.#isFailing = true;
  }
}
