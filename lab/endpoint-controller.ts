// The control plane's part of service networking: addresses for Services, EndpointSlices for their pods,
// and the address translation on every node. Level-triggered: any change leads to one look at everything.
import type { Cluster, KubeObject, Resource, WatchEvent } from "#lib/kube/cluster.ts";
import {
  RESOURCES,
  objectName,
  type EndpointSlice,
  type Pod,
  type Service,
} from "#lib/kube/objects.ts";
import type { IpFamilies } from "./address-plan.ts";
import { MANAGED_BY, slicesFor } from "./endpoints.ts";
import type { Netns } from "./netns.ts";
import { allocateServiceIps } from "./service-ips.ts";
import { renderServiceProxy } from "./service-proxy.ts";

const MANAGER = { fieldManager: "endpoint-controller" } as const;

/** A place where service addresses must work; borrowed. */
export interface ServiceProxyHost {
  readonly name: string;
  readonly zone: string;
  readonly netns: Netns;
  readonly podCidrs: readonly string[];
}

export class EndpointController implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #families: IpFamilies;
  readonly #hosts: () => readonly ServiceProxyHost[];
  readonly #onError: (error: Error) => void;
  readonly #services = new Map<string, Service>();
  readonly #pods = new Map<string, Pod>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #abort = new AbortController();
  readonly #watches: Promise<void>[] = [];
  readonly #waiters = new Set<() => void>();
  /** What each host was last given. */
  readonly #applied = new Map<string, string>();
  #synced = 0;
  #dirty = false;
  #running: Promise<void> | null = null;

  private constructor(
    cluster: Cluster,
    families: IpFamilies,
    hosts: () => readonly ServiceProxyHost[],
    onError: (error: Error) => void,
  ) {
    this.#cluster = cluster;
    this.#families = families;
    this.#hosts = hosts;
    this.#onError = onError;
  }

  /** @param hosts asked again at every change, so that late nodes are served as well */
  static start(
    cluster: Cluster,
    families: IpFamilies,
    hosts: () => readonly ServiceProxyHost[],
    onError: (error: Error) => void,
  ): EndpointController {
    const controller = new EndpointController(cluster, families, hosts, onError);
    controller.#follow(RESOURCES.services, controller.#services);
    controller.#follow(RESOURCES.pods, controller.#pods);
    controller.#follow(RESOURCES.endpointSlices, controller.#slices);
    return controller;
  }

  /** Ready addresses that the service's slices offer and every node translates to. */
  readyAddresses(namespace: string, service: string): string[] {
    return [...this.#slices.values()]
      .filter(
        (s) =>
          s.metadata.namespace === namespace &&
          s.metadata.labels?.["kubernetes.io/service-name"] === service,
      )
      .flatMap((s) => s.endpoints ?? [])
      .filter((e) => e.conditions?.ready !== false)
      .flatMap((e) => e.addresses);
  }

  /** Resolves when nothing is left to do and `holds`; rejects after `timeoutMs`. */
  async settled(holds: () => boolean, what: string, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (this.#dirty || this.#running !== null || !holds()) {
      const leftMs = deadline - Date.now();
      if (leftMs <= 0) throw new Error(`Not within ${timeoutMs} ms: ${what}`);
      await new Promise<void>((resolve) => {
        const waiters = this.#waiters;
        const timer = setTimeout(done, leftMs);
        function done(): void {
          clearTimeout(timer);
          waiters.delete(done);
          resolve();
        }
        waiters.add(done);
      });
    }
  }

  /** A node came or went. */
  poke(): void {
    this.#dirty = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      for (const wake of this.#waiters) wake();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#watches);
    await this.#running;
  }

  #follow<T extends KubeObject>(resource: Resource<T>, into: Map<string, T>): void {
    const watch = this.#cluster.watch(
      resource,
      {
        onEvents: (events: readonly WatchEvent<T>[]) => {
          for (const { type, object } of events)
            if (type === "deleted") into.delete(objectName(object));
            else into.set(objectName(object), object);
          this.#changed();
        },
        onSynced: () => {
          this.#synced++;
          this.#changed();
        },
        onError: this.#onError,
      },
      { signal: this.#abort.signal },
    );
    this.#watches.push(watch);
  }

  #changed(): void {
    if (this.#synced === 3) this.poke();
  }

  async #run(): Promise<void> {
    while (this.#dirty && !this.#abort.signal.aborted) {
      this.#dirty = false;
      try {
        await this.#allocate();
        await this.#writeSlices();
        await this.#translate();
      } catch (error) {
        if (!this.#abort.signal.aborted) this.#onError(error as Error);
      }
    }
  }

  async #allocate(): Promise<void> {
    for (const [key, service] of this.#services) {
      const others = [...this.#services].filter(([k]) => k !== key).map(([, s]) => s);
      const spec = allocateServiceIps(service, others, this.#families);
      if (spec === null) continue;
      const { namespace = null, name } = service.metadata;
      await this.#cluster.patch(RESOURCES.services, namespace, name, { spec }, MANAGER);
    }
  }

  async #writeSlices(): Promise<void> {
    const zones = new Map(this.#hosts().map((h) => [h.name, h.zone]));
    const pods = [...this.#pods.values()];
    const wanted = [...this.#services.values()].flatMap((s) =>
      slicesFor(s, pods, (node) => zones.get(node)),
    );
    const keep = new Set(wanted.map(objectName));
    for (const slice of wanted) {
      const old = this.#slices.get(objectName(slice));
      if (old === undefined || shape(old) !== shape(slice))
        await this.#cluster.apply(RESOURCES.endpointSlices, slice, MANAGER);
    }
    for (const [key, slice] of this.#slices) {
      const managed =
        slice.metadata.labels?.["endpointslice.kubernetes.io/managed-by"] === MANAGED_BY;
      if (managed && !keep.has(key))
        await this.#cluster.delete(
          RESOURCES.endpointSlices,
          slice.metadata.namespace ?? null,
          slice.metadata.name,
        );
    }
  }

  async #translate(): Promise<void> {
    const services = [...this.#services.values()];
    const slices = [...this.#slices.values()];
    await Promise.all(
      this.#hosts().map(async (host) => {
        const rules = renderServiceProxy(services, slices, host.podCidrs, true);
        if (this.#applied.get(host.name) === rules) return;
        await host.netns.run(["nft", "-f", "-"], { input: rules });
        this.#applied.set(host.name, rules);
      }),
    );
  }
}

const shape = (s: EndpointSlice): string => JSON.stringify([s.addressType, s.ports, s.endpoints]);
