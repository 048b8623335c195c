// Writes the conditions that the tables derive into the objects they are about, while it leads.
// Source: istio pilot/pkg/serviceregistry/ambient/statusqueue.
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock } from "#lib/base/clock.ts";
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { type Condition, objectName, RESOURCES } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { LeaderTask } from "../leader-task.ts";
import type { Metrics } from "../metrics.ts";
import type { ObjectConditions } from "../translate/status.ts";
import type { MalformedObjects } from "../watch/malformed-objects.ts";
import { acceptedType, MALFORMED_WRITER, writeMalformed } from "./malformed-status.ts";
import { mergeConditions } from "./merge-conditions.ts";
import { applyStatus, patchStatus } from "./patch-status.ts";

/** What the translator knows, by `Kind/namespace/name`. */
export interface ConditionSource {
  conditionKeys(): Iterable<string>;
  /** `undefined`: the object is gone, or none of our business any more; its status stays as it is. */
  conditionsOf(key: string): ObjectConditions | undefined;
}

export interface StatusWriterOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  /**
   * The same cluster, if it is an API server: then conditions are merged by their writer (server-side
   * apply) where the kind allows it, and malformed objects can be told so.
   */
  readonly api: ApiServerCluster | null;
  readonly malformed: MalformedObjects;
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
    acceptedType("ServiceEntry"),
  ]),
  WorkloadEntry: new Set(["istio.io/WaypointBound", acceptedType("WorkloadEntry")]),
  AuthorizationPolicy: new Set([acceptedType("AuthorizationPolicy"), "WaypointAccepted"]),
  PeerAuthentication: new Set([acceptedType("PeerAuthentication")]),
};
const NONE: ReadonlySet<string> = new Set();
const KINDS: readonly Resource<WithConditions>[] = [
  RESOURCES.services,
  RESOURCES.serviceEntries,
  RESOURCES.workloadEntries,
  RESOURCES.authorizationPolicies,
  RESOURCES.peerAuthentications,
];

/** A status to write. */
interface Due {
  readonly all: readonly Condition[];
  readonly own: readonly Condition[];
  readonly writer: string;
}

export class StatusWriter implements LeaderTask {
  readonly lock = "istio-status-leader";
  readonly lockKind = "lease";
  readonly #options: StatusWriterOptions;
  readonly #queue: WorkQueue<string>;
  /** A cluster that cannot be written to is said once, not once per object. */
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
  async lead(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#queue.run(this.#options.malformed.keys(), signal),
      ...KINDS.map((kind) => this.#lookAtAll(kind, signal)),
    ]);
  }

  /** One list instead of one read for each object; those that are as they should be cost nothing more. */
  async #lookAtAll(kind: Resource<WithConditions>, signal: AbortSignal): Promise<void> {
    const { cluster, log, clock } = this.#options;
    const backoff = new Backoff({ startMs: 500, maxMs: 30_000, jitter: 0.2 });
    while (!signal.aborted) {
      try {
        for (const live of await cluster.list(kind)) {
          const key = `${kind.kind}/${objectName(live)}`;
          if (this.#due(key, live) !== null) this.#queue.add(key);
        }
        return;
      } catch (error) {
        log.warn({ kind: kind.plural, error }, "statuses cannot be read; trying again");
        await clock.sleep(backoff.next(), signal);
      }
    }
  }

  async #write(key: string): Promise<void> {
    const isWritten = this.#options.malformed.get(key)
      ? await this.#writeMalformed(key)
      : await this.#writeConditions(key);
    if (!isWritten) return;
    this.#options.metrics.statusWrites.inc({ result: "written" });
    this.#isFailing = false;
  }

  async #writeMalformed(key: string): Promise<boolean> {
    const { api, clock, malformed } = this.#options;
    const object = malformed.get(key);
    const owned = OWNED[object?.resource.kind ?? ""];
    if (api === null || object === undefined || owned === undefined) return false;
    const outcome = await writeMalformed(api.apiServer, clock, object, owned);
    if (outcome === "missing") malformed.forget(key);
    return outcome === "written";
  }

  async #writeConditions(key: string): Promise<boolean> {
    const { cluster } = this.#options;
    const wanted = this.#wanted(key);
    if (wanted === undefined) return false;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- all of these kinds have conditions
    const kind = wanted.resource as Resource<WithConditions>;
    const live = await cluster.get(kind, wanted.namespace, wanted.name);
    const due = live === null ? null : this.#due(key, live);
    return live !== null && due !== null && this.#put(kind, live, due);
  }

  #wanted(key: string): ObjectConditions | undefined {
    const [kind, namespace = "", name = ""] = key.split("/");
    // All there is to say of these is that they can be read again.
    return kind === "PeerAuthentication"
      ? {
          resource: RESOURCES.peerAuthentications,
          namespace,
          name,
          fieldManager: MALFORMED_WRITER,
          conditions: [],
        }
      : this.#options.source.conditionsOf(key);
  }

  /** `null`: there is nothing to write. */
  #due(key: string, live: WithConditions): Due | null {
    const { clock } = this.#options;
    const wanted = this.#wanted(key);
    if (wanted === undefined) return null;
    const now = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
    const owned = OWNED[wanted.resource.kind] ?? NONE;
    const all = mergeConditions(live.status?.conditions ?? [], wanted.conditions, owned, now);
    if (all === null) return null;
    return { all, own: all.filter(({ type }) => owned.has(type)), writer: wanted.fieldManager };
  }

  /** @returns `false` when the object is gone. @throws {KubeError} */
  async #put(kind: Resource<WithConditions>, live: WithConditions, due: Due): Promise<boolean> {
    const { cluster, api } = this.#options;
    // Only Kubernetes' own kinds: in Istio's CRDs the list is one value, and whoever applies it takes
    // away the conditions of everybody else. There, the version read guards what others wrote.
    if (api === null || kind.group !== "")
      return patchStatus(cluster, kind, live, { conditions: due.all }, due.writer);
    const { apiVersion, metadata } = live;
    const { name, namespace = "", uid } = metadata;
    const own = {
      apiVersion,
      kind: kind.kind,
      metadata: { name, namespace, ...(uid === undefined ? {} : { uid }) },
      status: { conditions: due.own },
    };
    return applyStatus(cluster, kind, own, due.writer);
  }

  #giveUp(key: string, error: unknown): void {
    const { log, metrics } = this.#options;
    metrics.statusWrites.inc({ result: "failed" });
    log[this.#isFailing ? "debug" : "warn"]({ object: key, error }, "status cannot be written");
    this.#isFailing = true;
  }
}
