// From objects to the mesh tables, incrementally: one changed Pod costs one changed resource.
// The derivation is in tables.ts; here changes go in, and what became of the resources comes out.
import type { Change, Fault } from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import { sameResource } from "./encode.ts";
import type {
  EncodedResource,
  MeshDelta,
  MeshTables,
  ObjectChange,
  ResourceDelta,
} from "./mesh.ts";
import { compare } from "./objects.ts";
import type { ObjectConditions } from "./status.ts";
import { serviceAliases, Tables } from "./tables.ts";

export class MeshTranslator implements MeshTables {
  #tables: Tables;
  readonly #addresses = new Map<string, EncodedResource>();
  readonly #authorizations = new Map<string, EncodedResource>();
  readonly #waypointPolicies = new Map<string, EncodedResource>();
  readonly #newConditions = new Set<string>();
  #hasNewSelection = false;

  /** @throws {KubeError} `INVALID` for a selector of `config` that cannot be evaluated */
  constructor(config: TranslateConfig) {
    this.#tables = new Tables(config);
  }

  get config(): TranslateConfig {
    return this.#tables.config;
  }

  /** Takes a batch of changes: those of one object in their order, kinds in any. */
  update(changes: Iterable<ObjectChange>): MeshDelta {
    const tables = this.#tables;
    tables.apply(changes);
    const delta: MeshDelta = {
      addresses: fold(this.#addresses, [
        ...resourceChanges(tables.services.changes(), (r) => r),
        ...resourceChanges(tables.workloads.changes(), (w) => w.resource),
      ]),
      authorizations: fold(
        this.#authorizations,
        resourceChanges(tables.authorizations.changes(), (r) => r),
      ),
      waypointPolicies: fold(
        this.#waypointPolicies,
        resourceChanges(tables.waypointPolicies.changes(), (r) => r),
      ),
      services: [...tables.services.changes()].map((c) => c.key).sort(compare),
    };
    for (const { key } of tables.conditions.changes()) this.#newConditions.add(key);
    tables.settle();
    return delta;
  }

  /**
   * Derives everything again under another configuration; the delta holds only what came out
   * differently. @throws {KubeError} `INVALID` as the constructor; then nothing has changed
   */
  reconfigure(config: TranslateConfig): MeshDelta {
    const tables = new Tables(config);
    tables.adopt(this.#tables);
    tables.settle();
    const addresses = new Map<string, EncodedResource>();
    for (const resource of tables.services.values()) addresses.set(resource.name, resource);
    for (const { resource } of tables.workloads.values()) addresses.set(resource.name, resource);
    const authorizations = new Map<string, EncodedResource>();
    for (const resource of tables.authorizations.values())
      authorizations.set(resource.name, resource);
    const waypointPolicies = new Map<string, EncodedResource>();
    for (const resource of tables.waypointPolicies.values())
      waypointPolicies.set(resource.name, resource);
    for (const key of [...this.#tables.conditions.keys(), ...tables.conditions.keys()])
      this.#newConditions.add(key);
    this.#hasNewSelection = true;
    this.#tables = tables;
    const delta = {
      addresses: replace(this.#addresses, addresses),
      authorizations: replace(this.#authorizations, authorizations),
      waypointPolicies: replace(this.#waypointPolicies, waypointPolicies),
    };
    const names = [...delta.addresses.updated, ...delta.addresses.removed];
    return { ...delta, services: names.filter(isServiceName).sort(compare) };
  }

  addresses(): ReadonlyMap<string, EncodedResource> {
    return this.#addresses;
  }

  authorizations(): ReadonlyMap<string, EncodedResource> {
    return this.#authorizations;
  }

  waypointPolicies(): ReadonlyMap<string, EncodedResource> {
    return this.#waypointPolicies;
  }

  conditionKeys(): Iterable<string> {
    return this.#tables.conditions.keys();
  }

  conditionsOf(key: string): ObjectConditions | undefined {
    return this.#tables.conditions.get(key);
  }

  /** Objects whose conditions may differ from those at the last call. Take them, or they add up. */
  takeConditionChanges(): readonly string[] {
    const keys = [...this.#newConditions];
    this.#newConditions.clear();
    return keys;
  }

  /** Are objects of this namespace seen (`discoverySelectors`)? */
  isSelected(namespace: string): boolean {
    return this.#tables.inputs.isSelected(namespace);
  }

  /** Has `isSelected` another answer for some namespace since the last call? */
  takeSelectionChange(): boolean {
    const had = this.#tables.inputs.takeSelectionChange() || this.#hasNewSelection;
    this.#hasNewSelection = false;
    return had;
  }

  /** Status conditions by `Kind/namespace/name`, for whoever may write them. */
  conditions(): ReadonlyMap<string, ObjectConditions> {
    const { conditions } = this.#tables;
    return new Map([...conditions.keys()].map((key) => [key, conditions.get(key)]).filter(isEntry));
  }

  /** Objects that could not be derived since the last call; their last good state stands. */
  takeFaults(): readonly Fault[] {
    return this.#tables.takeFaults();
  }

  workloadsOfService(service: string): ReadonlySet<string> {
    return new Set(this.#tables.workloadsByService.keysAt(service));
  }

  servicesOfWorkload(uid: string): readonly string[] {
    return this.#tables.workloads.get(uid)?.services ?? [];
  }

  /** `network/ip` (or `network/ip/length`) names under which an address resource can be asked for too. */
  aliases(name: string): readonly string[] {
    const workload = this.#tables.workloads.get(name);
    if (workload !== undefined) return workload.addresses;
    const service = this.#tables.published.get(name);
    return service === undefined ? [] : serviceAliases(service);
  }

  lookup(name: string): readonly string[] {
    const { workloads, workloadsByAddress, published, publishedByAddress } = this.#tables;
    if (workloads.get(name) !== undefined) return [name];
    const byAddress = [...workloadsByAddress.keysAt(name)].sort(compare);
    if (byAddress.length > 0) return byAddress;
    const services =
      published.get(name) === undefined
        ? [...publishedByAddress.keysAt(name)].sort(compare)
        : [name];
    return services.flatMap((key) => [key, ...[...this.workloadsOfService(key)].sort(compare)]);
  }
}

type ResourceChange = { readonly key: string; readonly after: EncodedResource | undefined };

function* resourceChanges<T>(
  changes: Iterable<Change<T>>,
  resourceOf: (value: T) => EncodedResource,
): Generator<ResourceChange> {
  for (const { key, after } of changes)
    yield { key, after: after === undefined ? undefined : resourceOf(after) };
}

/** Applies changes to `live` and names those that made a difference. */
function fold(
  live: Map<string, EncodedResource>,
  changes: Iterable<ResourceChange>,
): ResourceDelta {
  const updated: string[] = [];
  const removed: string[] = [];
  for (const { key, after } of changes) {
    const before = live.get(key);
    if (after === undefined) {
      if (live.delete(key)) removed.push(key);
    } else if (before === undefined || !sameResource(before, after)) {
      live.set(key, after);
      updated.push(key);
    }
  }
  return { updated: updated.sort(compare), removed: removed.sort(compare) };
}

function replace(
  live: Map<string, EncodedResource>,
  next: ReadonlyMap<string, EncodedResource>,
): ResourceDelta {
  const gone = [...live.keys()].filter((key) => !next.has(key));
  return fold(live, [
    ...gone.map((key) => ({ key, after: undefined })),
    ...[...next].map(([key, after]) => ({ key, after })),
  ]);
}

/** `namespace/hostname`; workload names have more parts. */
function isServiceName(name: string): boolean {
  return name.split("/").length === 2;
}

function isEntry<T>(entry: (string | T | undefined)[]): entry is [string, T] {
  return entry[1] !== undefined;
}
