// The mesh tables as the delta protocol sees them: one table per type URL.
import type { OutgoingResource } from "#lib/grpc/delta-messages.ts";
import type { DeltaSource } from "#lib/xds/delta-server.ts";
import {
  ADDRESS_TYPE,
  AUTHORIZATION_TYPE,
  POLICY_TYPES,
  WAYPOINT_POLICY_TYPE,
  WORKLOAD_TYPE,
} from "#lib/xds/type-urls.ts";
import type { MeshTables } from "../translate/mesh.ts";

export interface MeshSourceOptions {
  readonly tables: MeshTables;
  readonly clusterId: string;
  /** Pods of a node; decides what an on-demand client gets unasked. */
  readonly podsOnNode: (
    node: string,
  ) => readonly { readonly namespace: string; readonly name: string }[];
}

const NOTHING: readonly string[] = [];

export class MeshSource implements DeltaSource {
  readonly #options: MeshSourceOptions;
  readonly #workloads: ReadonlyMap<string, OutgoingResource>;

  constructor(options: MeshSourceOptions) {
    this.#options = options;
    this.#workloads = new WorkloadView(options.tables);
  }

  table(typeUrl: string): ReadonlyMap<string, OutgoingResource> | null {
    if (typeUrl === ADDRESS_TYPE) return this.#options.tables.addresses();
    if (typeUrl === AUTHORIZATION_TYPE) return this.#options.tables.authorizations();
    if (typeUrl === WAYPOINT_POLICY_TYPE) return this.#options.tables.waypointPolicies();
    return typeUrl === WORKLOAD_TYPE ? this.#workloads : null;
  }

  lookup(typeUrl: string, key: string): readonly string[] {
    return POLICY_TYPES.has(typeUrl) ? NOTHING : this.#options.tables.lookup(key);
  }

  local(typeUrl: string, nodeName: string): readonly string[] {
    if (POLICY_TYPES.has(typeUrl) || nodeName === "") return NOTHING;
    const table = this.#options.tables.addresses();
    return this.#options
      .podsOnNode(nodeName)
      .map((pod) => `${this.#options.clusterId}//Pod/${pod.namespace}/${pod.name}`)
      .filter((name) => table.has(name));
  }
}

/** Field 1 of `Address`, length-delimited: the workload. Services have field 2. */
const WORKLOAD_TAG = 0x0a;

/** The addresses that are workloads, without their `Address` wrapping: for Envoy's peer metadata. */
class WorkloadView implements ReadonlyMap<string, OutgoingResource> {
  readonly #tables: MeshTables;

  constructor(tables: MeshTables) {
    this.#tables = tables;
  }

  get(name: string): OutgoingResource | undefined {
    const address = this.#tables.addresses().get(name);
    return address === undefined ? undefined : unwrap(address);
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  *entries(): MapIterator<[string, OutgoingResource]> {
    for (const [name, address] of this.#tables.addresses()) {
      const workload = unwrap(address);
      if (workload !== undefined) yield [name, workload];
    }
  }

  *keys(): MapIterator<string> {
    for (const [name] of this.entries()) yield name;
  }

  *values(): MapIterator<OutgoingResource> {
    for (const [, workload] of this.entries()) yield workload;
  }

  forEach(
    body: (
      value: OutgoingResource,
      key: string,
      map: ReadonlyMap<string, OutgoingResource>,
    ) => void,
  ): void {
    for (const [name, workload] of this.entries()) body(workload, name, this);
  }

  /** Counts: not for hot paths. */
  get size(): number {
    return [...this.keys()].length;
  }

  [Symbol.iterator](): MapIterator<[string, OutgoingResource]> {
    return this.entries();
  }
}

function unwrap(address: OutgoingResource): OutgoingResource | undefined {
  const { bytes } = address;
  if (bytes[0] !== WORKLOAD_TAG) return undefined;
  let start = 1;
  while ((bytes[start] ?? 0) >= 0x80) start++;
  return { name: address.name, version: address.version, bytes: bytes.subarray(start + 1) };
}
