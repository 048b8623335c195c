// What is known about Gateways and the objects around them, on every replica: whoever leads next starts
// from here. The large watches (Services, EndpointSlices) are those of the tables, shared by the cluster.
import type { Cluster, KubeObject } from "#lib/kube/cluster.ts";
import {
  type ConfigMap,
  type EndpointSlice,
  type Gateway,
  type GatewayClass,
  objectName,
  RESOURCES,
  type Service,
} from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { classOf, type ManagedClass } from "./classes.ts";
import { type Follow, FollowedObjects } from "./followed-objects.ts";
import type { Observation } from "./gateway-status.ts";
import { CLASS_DEFAULTS, GATEWAY_NAME, MANAGED } from "./keys.ts";
import { type Parameters, parametersOf } from "./overlays.ts";
import { backingServices } from "./backing-services.ts";
import type { GatewaySettings } from "./settings.ts";
import { RevisionOwners } from "./revision-owners.ts";
import { isSameButStatus } from "./same-but-status.ts";
import { WatchedObjects } from "./watched-objects.ts";

/** What kind of thing changed around a Gateway. */
export type Cause =
  /** Its own spec, labels or annotations; its class, parameters, namespace, the tags, the settings. */
  | "gateway"
  /** Its status, and nothing else. */
  | "status"
  /** Something made for it. */
  | "child"
  /** A Service it is reached by, or the endpoints of one. */
  | "reach";

export interface GatewayCacheOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly settings: () => GatewaySettings;
  /** Namespaces that are not selected have no Gateways (`discoverySelectors`). */
  isSelected(namespace: string): boolean;
  /** Also watch what is made for Gateways. */
  readonly isDeploying: boolean;
  readonly log: Logger;
}

/** The kinds made for a Gateway. */
const CHILD_KINDS = [
  RESOURCES.serviceAccounts,
  RESOURCES.deployments,
  RESOURCES.services,
  RESOURCES.horizontalPodAutoscalers,
  RESOURCES.podDisruptionBudgets,
] as const;

type Listener = (gateway: string, cause: Cause) => void;

const SERVICE_NAME = "kubernetes.io/service-name";

export class GatewayCache {
  readonly #options: GatewayCacheOptions;
  readonly #listeners = new Set<Listener>();
  readonly #gateways: WatchedObjects<Gateway>;
  readonly #classes: WatchedObjects<GatewayClass>;
  readonly #owners: RevisionOwners;
  readonly #defaults: WatchedObjects<ConfigMap>;
  readonly #services: WatchedObjects<Service>;
  readonly #slices: WatchedObjects<EndpointSlice>;
  /** Child kinds but Services, by plural. */
  readonly #children = new Map<string, WatchedObjects<KubeObject>>();
  readonly #followed: FollowedObjects;
  /** Service → Gateways reached by it. */
  readonly #reachedBy = new Map<string, Set<string>>();
  readonly #synced = Promise.withResolvers<void>();
  readonly #classListeners = new Set<(name: string) => void>();

  constructor(options: GatewayCacheOptions) {
    this.#options = options;
    const { cluster, log, isDeploying, settings } = options;
    const onSynced = (): void => this.#checkSynced();
    const system = settings().systemNamespace;
    this.#gateways = new WatchedObjects({
      resource: RESOURCES.gateways,
      onChange: (now, old) => this.#gatewayChanged(now, old),
      onSynced,
    });
    this.#classes = new WatchedObjects({
      resource: RESOURCES.gatewayClasses,
      onChange: (now, old) => this.#classChanged(now, old),
      onSynced,
    });
    this.#owners = new RevisionOwners({
      settings,
      onChange: (namespace) => this.#ownersChanged(namespace),
      onSynced,
    });
    this.#defaults = new WatchedObjects({
      resource: RESOURCES.configMaps,
      select: { namespace: system, labelSelector: CLASS_DEFAULTS },
      onChange: () => this.reconsider(),
      onSynced,
    });
    this.#services = new WatchedObjects({
      resource: RESOURCES.services,
      onChange: (now, old) => this.#serviceChanged(now, old),
      onSynced,
    });
    this.#slices = new WatchedObjects({
      resource: RESOURCES.endpointSlices,
      onChange: (now, old) => this.#sliceChanged(now ?? old),
      onSynced,
    });
    if (isDeploying)
      for (const resource of CHILD_KINDS) {
        if (resource.kind === "Service") continue;
        const onChange = (now?: KubeObject, old?: KubeObject): void => this.#childChanged(now, old);
        const watched = new WatchedObjects<KubeObject>({
          resource,
          select: { labelSelector: MANAGED },
          onChange,
          onSynced,
        });
        this.#children.set(resource.plural, watched);
      }
    this.#followed = new FollowedObjects({
      cluster,
      log,
      onChange: (gateway) => this.#emit(gateway, "gateway"),
    });
  }

  /** Watches until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { cluster, log } = this.#options;
    await Promise.all(this.#all().map((watched) => watched.run(cluster, log, signal)));
    await this.#followed.stop();
  }

  /** Resolves when everything there was at the start is known, or `signal` aborts. */
  async synced(signal: AbortSignal): Promise<void> {
    const aborted = Promise.withResolvers<void>();
    const stop = (): void => aborted.resolve();
    if (signal.aborted) return;
    signal.addEventListener("abort", stop, { once: true });
    await Promise.race([this.#synced.promise, aborted.promise]);
    signal.removeEventListener("abort", stop);
  }

  /** Told of each Gateway that may want something else now. Dispose to hear no more. */
  listen(listener: Listener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Told of each GatewayClass that came, went or changed. */
  listenClasses(listener: (name: string) => void): Disposable {
    this.#classListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#classListeners.delete(listener) };
  }

  /** Something every Gateway depends on has changed: the settings, the selection of namespaces. */
  reconsider(): void {
    for (const key of this.#gateways.objects.keys()) this.#changed(key, "gateway");
  }

  gateway(key: string): Gateway | undefined {
    return this.#gateways.objects.get(key);
  }

  keys(): Iterable<string> {
    return this.#gateways.objects.keys();
  }

  classes(): ReadonlyMap<string, GatewayClass> {
    return this.#classes.objects;
  }

  /** @returns `null` for a Gateway that is gone, on its way, or somebody else's */
  ours(key: string): { readonly gateway: Gateway; readonly managedClass: ManagedClass } | null {
    const gateway = this.#gateways.objects.get(key);
    const managedClass = gateway === undefined ? null : this.#classOf(gateway);
    if (gateway === undefined || managedClass === null) return null;
    const { namespace = "", deletionTimestamp } = gateway.metadata;
    if (deletionTimestamp !== undefined || !this.#options.isSelected(namespace)) return null;
    return this.#owners.isOurs(gateway) ? { gateway, managedClass } : null;
  }

  parameters(gateway: Gateway): Parameters {
    const { namespace = "" } = gateway.metadata;
    const className = gateway.spec?.gatewayClassName ?? "";
    const defaults = [...this.#defaults.objects.values()].filter(
      (c) => c.metadata.labels?.[CLASS_DEFAULTS] === className,
    );
    return parametersOf(gateway, defaults, (wanted) => {
      const found = this.#followed.objects(configMapKey(namespace, wanted));
      if (found === undefined) return undefined;
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only ConfigMaps are followed under this key
      return (found.get(`${namespace}/${wanted}`) as ConfigMap | undefined) ?? null;
    });
  }

  services(gateway: Gateway): Observation["services"] {
    return backingServices(gateway, this.#options.settings().domain).map(({ hostname, key }) => ({
      hostname,
      service: (key === null ? undefined : this.#services.objects.get(key)) ?? null,
      slices: [...this.#slices.objects.values()].filter((s) => serviceOf(s) === key),
    }));
  }

  /** Something that is there under a name of what is made for Gateways. But Services are labelled so. */
  child(plural: string, key: string): KubeObject | undefined {
    return this.#store(plural)?.objects.get(key);
  }

  /** What a write to a child gave back. */
  learn(plural: string, object: KubeObject): void {
    this.#store(plural)?.learn(object);
  }

  #store(plural: string): WatchedObjects<KubeObject> | undefined {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- read as objects of any kind
    const services = this.#services as unknown as WatchedObjects<KubeObject>;
    return plural === RESOURCES.services.plural ? services : this.#children.get(plural);
  }

  #all(): WatchedObjects<KubeObject>[] {
    const kinds = [
      this.#gateways,
      this.#classes,
      this.#owners.namespaces,
      this.#defaults,
      this.#services,
      this.#slices,
      ...this.#children.values(),
    ];
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- run alike, whatever their kind
    return kinds as unknown as WatchedObjects<KubeObject>[];
  }

  #checkSynced(): void {
    if (this.#all().every((watched) => watched.isSynced)) this.#synced.resolve();
  }

  #classOf(gateway: Gateway): ManagedClass | null {
    return classOf(gateway, this.#classes.objects.get(gateway.spec?.gatewayClassName ?? ""));
  }

  #gatewayChanged(now: Gateway | undefined, old: Gateway | undefined): void {
    const either = now ?? old;
    if (either === undefined) return;
    const key = objectName(either);
    if (now === undefined) {
      this.#followed.set(key, []);
      for (const [service, gateways] of this.#reachedBy)
        if (gateways.delete(key)) {
          if (gateways.size === 0) this.#reachedBy.delete(service);
          for (const other of gateways) this.#changed(other, "gateway"); // may have waited for the name
        }
      return;
    }
    this.#changed(key, old !== undefined && isSameButStatus(now, old) ? "status" : "gateway");
  }

  #classChanged(now: GatewayClass | undefined, old: GatewayClass | undefined): void {
    const name = (now ?? old)?.metadata.name ?? "";
    for (const listener of this.#classListeners) listener(name);
    if (now !== undefined && old !== undefined && isSameButStatus(now, old)) return;
    for (const [key, gateway] of this.#gateways.objects)
      if (gateway.spec?.gatewayClassName === name) this.#changed(key, "gateway");
  }

  #ownersChanged(namespace: string | null): void {
    for (const [key, gateway] of this.#gateways.objects)
      if (namespace === null || gateway.metadata.namespace === namespace)
        this.#changed(key, "gateway");
  }

  #serviceChanged(now: Service | undefined, old: Service | undefined): void {
    this.#childChanged(now, old);
    const either = now ?? old;
    if (either === undefined) return;
    this.#reachChanged(objectName(either));
    this.#owners.serviceChanged(either, now === undefined);
  }

  #sliceChanged(slice: EndpointSlice | undefined): void {
    const key = slice === undefined ? null : serviceOf(slice);
    if (key !== null) this.#reachChanged(key);
  }

  #reachChanged(service: string): void {
    for (const gateway of this.#reachedBy.get(service) ?? []) this.#changed(gateway, "reach");
  }

  #childChanged(now: KubeObject | undefined, old: KubeObject | undefined): void {
    // Controllers report often. Of accounts the watch keeps the metadata alone: any change may be one.
    const hasStatus = now?.kind !== RESOURCES.serviceAccounts.kind;
    if (hasStatus && now !== undefined && old !== undefined && isSameButStatus(now, old)) return;
    const { namespace = "", labels } = (now ?? old)?.metadata ?? {};
    const names = new Set([labels?.[GATEWAY_NAME], old?.metadata.labels?.[GATEWAY_NAME]]);
    for (const name of names) if (name !== undefined) this.#emit(`${namespace}/${name}`, "child");
    if (now !== undefined || labels?.[MANAGED] === undefined) return;
    // Its name is free: another Gateway may have waited for it.
    for (const [key, { metadata }] of this.#gateways.objects)
      if (metadata.namespace === namespace) this.#emit(key, "child");
  }

  #changed(key: string, cause: Cause): void {
    this.#follow(key);
    this.#emit(key, cause);
  }

  #emit(key: string, cause: Cause): void {
    for (const listener of this.#listeners) listener(key, cause);
  }

  /** Brings the watches a Gateway needs, and who is reached by what, up to date. */
  #follow(key: string): void {
    const gateway = this.#gateways.objects.get(key);
    if (gateway === undefined || this.#classOf(gateway) === null) {
      this.#followed.set(key, []);
      return;
    }
    const { namespace = "" } = gateway.metadata;
    const follows: Follow[] = [];
    const ref = gateway.spec?.infrastructure?.parametersRef;
    if (ref?.kind === "ConfigMap" && ref.group === "")
      follows.push(followConfigMap(namespace, ref.name));
    for (const { key: service } of backingServices(gateway, this.#options.settings().domain)) {
      if (service === null) continue;
      const reached = this.#reachedBy.get(service);
      if (reached === undefined) this.#reachedBy.set(service, new Set([key]));
      else reached.add(key);
    }
    this.#followed.set(key, follows);
  }
}

function serviceOf({ metadata }: EndpointSlice): string | null {
  const name = metadata.labels?.[SERVICE_NAME];
  return name === undefined ? null : `${metadata.namespace ?? ""}/${name}`;
}

function configMapKey(namespace: string, name: string): string {
  return `ConfigMap ${namespace}/${name}`;
}

function followConfigMap(namespace: string, name: string): Follow {
  const select = { namespace, fieldSelector: `metadata.name=${name}` };
  return { key: configMapKey(namespace, name), resource: RESOURCES.configMaps, select };
}
