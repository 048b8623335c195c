// The objects the tables are made of: reduced on arrival, and hidden while their namespace is not
// selected for discovery or their revision is another one.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { compileLabelSelector, type LabelMatcher, type Labels } from "#lib/kube/labels.ts";
import { kindKey, RESOURCES } from "#lib/kube/objects.ts";
import { Source } from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import type { ObjectChange } from "./mesh.ts";
import type * as objects from "./objects.ts";
import * as reduce from "./reduce.ts";

interface Filter {
  /** `null`: every namespace is. */
  readonly isSelected: ((namespace: string) => boolean) | null;
  /** "": every revision is ours. */
  readonly revision: string;
}

/** One kind's visible objects, and those kept aside. */
class Input<T extends objects.Identified> {
  readonly visible: Source<T>;
  /** Namespace → objects that wait for it to be selected. */
  readonly #hidden = new Map<string, Map<string, T>>();
  /** Objects of other revisions: they count again when the configuration changes. */
  readonly #foreign = new Map<string, T>();
  readonly #reduce: (object: never) => T;
  readonly #filter: Filter;

  constructor(name: string, reduce: (object: never) => T, filter: Filter) {
    this.visible = new Source<T>(name);
    this.#reduce = reduce;
    this.#filter = filter;
  }

  set(object: KubeObject, isGone: boolean): void {
    const { namespace = "", name } = object.metadata;
    const key = namespace === "" ? name : `${namespace}/${name}`;
    this.#foreign.delete(key);
    this.#unhide(namespace, key);
    if (isGone) this.visible.delete(key);
    else this.#place(this.#reduce(object as never));
  }

  /** Shows or hides what is in `namespace`. */
  select(namespace: string, isSelected: boolean): void {
    if (this.#filter.isSelected === null) return;
    if (isSelected) {
      for (const [key, value] of this.#hidden.get(namespace) ?? []) this.visible.set(key, value);
      this.#hidden.delete(namespace);
      return;
    }
    const hidden = [...this.visible.values()].filter((v) => v.namespace === namespace);
    for (const value of hidden) {
      this.visible.delete(value.key);
      this.#hide(value);
    }
  }

  /** Takes over everything another one holds, under this one's filter. */
  adopt(other: Input<T>): void {
    for (const value of other.visible.values()) this.#place(value);
    for (const hidden of other.#hidden.values())
      for (const value of hidden.values()) this.#place(value);
    for (const value of other.#foreign.values()) this.#place(value);
  }

  #place(value: T): void {
    const { isSelected, revision } = this.#filter;
    const isForeign = revision !== "" && value.revision !== "" && value.revision !== revision;
    const isHidden = isSelected !== null && !isSelected(value.namespace);
    if (!isForeign && !isHidden) return this.visible.set(value.key, value);
    this.visible.delete(value.key);
    if (isForeign) this.#foreign.set(value.key, value);
    else this.#hide(value);
  }

  #hide(value: T): void {
    const hidden = this.#hidden.get(value.namespace);
    if (hidden === undefined) this.#hidden.set(value.namespace, new Map([[value.key, value]]));
    else hidden.set(value.key, value);
  }

  #unhide(namespace: string, key: string): void {
    const hidden = this.#hidden.get(namespace);
    if (hidden?.delete(key) === true && hidden.size === 0) this.#hidden.delete(namespace);
  }
}

/** Cluster-scoped kinds and Namespaces are never filtered; Istio's own kinds also by revision. */
export class Inputs {
  readonly namespaces: Source<objects.Namespace>;
  readonly nodes: Source<objects.Node>;
  readonly pods: Source<objects.Pod>;
  readonly services: Source<objects.Service>;
  readonly endpointSlices: Source<objects.EndpointSlice>;
  readonly serviceEntries: Source<objects.ServiceEntry>;
  readonly workloadEntries: Source<objects.WorkloadEntry>;
  readonly authorizationPolicies: Source<objects.AuthorizationPolicy>;
  readonly peerAuthentications: Source<objects.PeerAuthentication>;
  readonly gateways: Source<objects.Gateway>;
  readonly gatewayClasses: Source<objects.GatewayClass>;
  readonly #kinds = new Map<string, Input<objects.Identified>>();
  readonly #selectors: readonly LabelMatcher[];
  readonly #selected = new Set<string>();
  #hasNewSelection = false;

  /** @throws {KubeError} `INVALID` for a discovery selector that cannot be evaluated */
  constructor(config: TranslateConfig) {
    this.#selectors = config.discoverySelectors.map(compileLabelSelector);
    const isSelected =
      this.#selectors.length === 0 ? null : (ns: string): boolean => this.isSelected(ns);
    const all = { isSelected: null, revision: "" };
    const selected = { isSelected, revision: "" };
    const own = { isSelected, revision: config.revision };
    this.namespaces = this.#add(RESOURCES.namespaces, reduce.namespace, all);
    this.nodes = this.#add(RESOURCES.nodes, reduce.node, all);
    this.pods = this.#add(RESOURCES.pods, reduce.pod, selected);
    this.services = this.#add(RESOURCES.services, reduce.service, selected);
    this.endpointSlices = this.#add(RESOURCES.endpointSlices, reduce.endpointSlice, selected);
    this.serviceEntries = this.#add(RESOURCES.serviceEntries, reduce.serviceEntry, own);
    this.workloadEntries = this.#add(RESOURCES.workloadEntries, reduce.workloadEntry, own);
    this.authorizationPolicies = this.#add(
      RESOURCES.authorizationPolicies,
      reduce.authorizationPolicy,
      own,
    );
    this.peerAuthentications = this.#add(
      RESOURCES.peerAuthentications,
      reduce.peerAuthentication,
      own,
    );
    this.gateways = this.#add(RESOURCES.gateways, reduce.gateway, selected);
    this.gatewayClasses = this.#add(RESOURCES.gatewayClasses, reduce.gatewayClass, all);
  }

  apply(changes: Iterable<ObjectChange>): void {
    for (const { resource, type, object } of changes) {
      const kind = this.#kinds.get(kindKey(resource));
      if (kind === undefined) continue;
      const isGone = type === "deleted";
      if (resource.kind === "Namespace") this.#selectNamespace(object, isGone);
      kind.set(object, isGone);
    }
  }

  /** Are objects of this namespace seen? */
  isSelected(namespace: string): boolean {
    return this.#selectors.length === 0 || this.#selected.has(namespace);
  }

  /** Has `isSelected` another answer for some namespace since the last call? */
  takeSelectionChange(): boolean {
    const had = this.#hasNewSelection;
    this.#hasNewSelection = false;
    return had;
  }

  settle(): void {
    for (const kind of this.#kinds.values()) kind.visible.settle();
  }

  /** Takes over the objects of `other`, as seen under this configuration. */
  adopt(other: Inputs): void {
    for (const namespace of other.namespaces.values())
      this.#mark(namespace.name, namespace.labels, false);
    for (const [key, kind] of this.#kinds) {
      const from = other.#kinds.get(key);
      if (from !== undefined) kind.adopt(from);
    }
  }

  #selectNamespace(object: KubeObject, isGone: boolean): void {
    const { name, labels } = object.metadata;
    if (!this.#mark(name, labels ?? {}, isGone)) return;
    const isSelected = this.#selected.has(name);
    for (const kind of this.#kinds.values()) kind.select(name, isSelected);
  }

  /** @returns whether the selection of this namespace changed */
  #mark(name: string, labels: Labels, isGone: boolean): boolean {
    const isSelected = !isGone && this.#selectors.some((matches) => matches(labels));
    if (isSelected === this.#selected.has(name)) return false;
    this.#hasNewSelection = true;
    if (isSelected) this.#selected.add(name);
    else this.#selected.delete(name);
    return true;
  }

  #add<K extends KubeObject, T extends objects.Identified>(
    resource: Resource<K>,
    reduce: (object: K) => T,
    filter: Filter,
  ): Source<T> {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only objects of this kind arrive
    const input = new Input<T>(resource.kind, reduce as (object: never) => T, filter);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the map's users mind no kind
    this.#kinds.set(kindKey(resource), input as unknown as Input<objects.Identified>);
    return input.visible;
  }
}

/** The kinds to watch for the tables. */
export const WATCHED = [
  RESOURCES.namespaces,
  RESOURCES.nodes,
  RESOURCES.gatewayClasses,
  RESOURCES.gateways,
  RESOURCES.services,
  RESOURCES.endpointSlices,
  RESOURCES.serviceEntries,
  RESOURCES.authorizationPolicies,
  RESOURCES.peerAuthentications,
  RESOURCES.workloadEntries,
  RESOURCES.pods,
] as const;
