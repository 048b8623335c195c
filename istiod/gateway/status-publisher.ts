// Writes what is to be said about Gateways and GatewayClasses into their status, while it leads.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { sameJson, type Json } from "#lib/kube/json.ts";
import { type Condition, type Gateway, type ListenerStatus, RESOURCES } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { LeaderTask } from "../leader-task.ts";
import type { Metrics } from "../metrics.ts";
import { mergeConditions } from "../status/merge-conditions.ts";
import { patchStatus } from "../status/patch-status.ts";
import { otherOwner } from "./claims.ts";
import { classNamed, isDeployed, type ManagedClass } from "./classes.ts";
import type { Cause, GatewayCache } from "./gateway-cache.ts";
import { gatewayStatus, type GatewayStatus, type Observation } from "./gateway-status.ts";
import { CONTROLLER_NAME } from "./keys.ts";
import type { ListenerConditions } from "./listener-status.ts";
import { render } from "./render.ts";
import type { GatewaySettings } from "./settings.ts";

export interface StatusPublisherOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly cache: GatewayCache;
  readonly settings: () => GatewaySettings;
  readonly lock: string;
  readonly metrics: Pick<Metrics, "statusWrites">;
  readonly log: Logger;
  readonly clock: Clock;
}

type Item =
  | { readonly kind: "Gateway"; readonly key: string }
  | { readonly kind: "GatewayClass"; readonly name: string };

const CAUSES: ReadonlySet<Cause> = new Set<Cause>(["gateway", "status", "reach"]);
const OWN_CONDITIONS = new Set(["Accepted", "Programmed", "ResolvedRefs"]);
const OWN_LISTENER_CONDITIONS = new Set(["Accepted", "Conflicted", "Programmed", "ResolvedRefs"]);
const OWN_CLASS_CONDITIONS = new Set(["Accepted"]);

export class StatusPublisher implements LeaderTask {
  readonly lock: string;
  readonly lockKind = "lease";
  readonly #options: StatusPublisherOptions;
  /** Keys are items as JSON: equal ones wait once. */
  readonly #queue: WorkQueue<string>;
  #isFailing = false;

  constructor(options: StatusPublisherOptions) {
    this.#options = options;
    this.lock = options.lock;
    this.#queue = new WorkQueue({
      handle: (item) => this.#publish(JSON.parse(item) as Item),
      onGivenUp: (item, error) => this.#giveUp(item, error),
      clock: options.clock,
    });
  }

  async lead(signal: AbortSignal): Promise<void> {
    const { cache } = this.#options;
    await cache.synced(signal);
    using _ = cache.listen((key, cause) => {
      if (CAUSES.has(cause)) this.#queue.add(gatewayItem(key));
    });
    using __ = cache.listenClasses((name) => this.#queue.add(classItem(name)));
    const gateways = [...cache.keys()].map(gatewayItem);
    await this.#queue.run([...[...cache.classes().keys()].map(classItem), ...gateways], signal);
  }

  async #publish(item: Item): Promise<void> {
    switch (item.kind) {
      case "Gateway":
        return this.#publishGateway(item.key);
      case "GatewayClass":
        return this.#publishClass(item.name);
      default:
        item satisfies never;
    }
  }

  async #publishGateway(key: string): Promise<void> {
    const { cluster, cache } = this.#options;
    const found = cache.ours(key);
    if (found === null) return;
    const observed = this.#observe(found.gateway, found.managedClass);
    if (observed === null) return;
    const { namespace = null, name, generation } = found.gateway.metadata;
    const wanted = gatewayStatus(found.gateway, observed);
    if (this.#changes(found.gateway, wanted) === null) return;
    const live = await cluster.get(RESOURCES.gateways, namespace, name);
    // Another Gateway than the one judged: its event is on the way.
    if (live === null || live.metadata.generation !== generation) return;
    const changes = this.#changes(live, wanted);
    if (changes === null) return;
    const isThere = await patchStatus(cluster, RESOURCES.gateways, live, changes, CONTROLLER_NAME);
    if (isThere) this.#written();
  }

  /** @returns `null` while something is not known yet */
  #observe(gateway: Gateway, managedClass: ManagedClass): Observation | null {
    const { cache, settings } = this.#options;
    const parameters = cache.parameters(gateway);
    const services = cache.services(gateway);
    if (parameters.kind === "unknown") return null;
    if (parameters.kind === "invalid") return { services, problem: parameters.message };
    if (!isDeployed(gateway)) return { services, problem: null };
    const { overlays } = parameters;
    // Whether it can be made is asked here, not what.
    const rendering = render(gateway, {
      managedClass,
      settings: settings(),
      program: { image: "", imagePullPolicy: null },
      overlays,
      deployedSelector: null,
    });
    if (rendering.kind === "invalid") return { services, problem: rendering.message };
    const service = services[0]?.service ?? null;
    const other = service && otherOwner(service, gateway, (key) => cache.gateway(key));
    const problem = other === null ? null : `The Service of this name is made for Gateway ${other}`;
    return { services, problem };
  }

  #changes(live: Gateway, wanted: GatewayStatus): Record<string, unknown> | null {
    const now = this.#now();
    const status = live.status ?? {};
    const conditions = mergeConditions(
      status.conditions ?? [],
      wanted.conditions,
      OWN_CONDITIONS,
      now,
    );
    const listeners = mergeListeners(status.listeners ?? [], wanted.listeners, now);
    const { addresses } = wanted;
    const isMoved =
      addresses !== null && !sameJson(asJson(addresses), asJson(status.addresses ?? []));
    if (conditions === null && listeners === null && !isMoved) return null;
    return {
      ...(conditions === null ? {} : { conditions }),
      ...(listeners === null ? {} : { listeners }),
      ...(isMoved ? { addresses } : {}),
    };
  }

  async #publishClass(name: string): Promise<void> {
    const { cluster, cache } = this.#options;
    const object = cache.classes().get(name);
    const managed = object === undefined ? null : classNamed(name, object);
    if (object === undefined || managed === null) return;
    const { generation } = object.metadata;
    const accepted: Condition = {
      type: "Accepted",
      status: "True",
      reason: "Accepted",
      message: `Handled by ${managed.controllerName}`,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
    };
    const live = object.status?.conditions ?? [];
    const conditions = mergeConditions(live, [accepted], OWN_CLASS_CONDITIONS, this.#now());
    if (conditions === null) return;
    const isThere = await patchStatus(
      cluster,
      RESOURCES.gatewayClasses,
      object,
      { conditions },
      CONTROLLER_NAME,
    );
    if (isThere) this.#written();
  }

  #now(): string {
    return new Date(this.#options.clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
  }

  #written(): void {
    this.#options.metrics.statusWrites.inc({ result: "written" });
    this.#isFailing = false;
  }

  #giveUp(item: string, error: unknown): void {
    const { log, metrics } = this.#options;
    metrics.statusWrites.inc({ result: "failed" });
    log[this.#isFailing ? "debug" : "warn"]({ object: item, error }, "status cannot be written");
    this.#isFailing = true;
  }
}

/** In the order of the spec; `null` when nothing differs. */
function mergeListeners(
  live: readonly ListenerStatus[],
  wanted: readonly ListenerConditions[],
  now: string,
): readonly ListenerStatus[] | null {
  const merged = wanted.map((listener): ListenerStatus => {
    const old = live.find((l) => l.name === listener.name)?.conditions ?? [];
    const conditions = mergeConditions(old, listener.conditions, OWN_LISTENER_CONDITIONS, now);
    return { ...listener, conditions: conditions ?? old };
  });
  return sameJson(asJson(merged), asJson(live)) ? null : merged;
}

/** As it comes back from the API server. */
function asJson(value: unknown): Json {
  return JSON.parse(JSON.stringify(value)) as Json;
}

function gatewayItem(key: string): string {
  return JSON.stringify({ kind: "Gateway", key } satisfies Item);
}

function classItem(name: string): string {
  return JSON.stringify({ kind: "GatewayClass", name } satisfies Item);
}
