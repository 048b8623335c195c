// What the translator is fed and what it hands to the pusher: the values between watch/ and push/.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";

/** One resource as it goes on the wire: encoded once, shared by every stream that sends it. */
export interface EncodedResource {
  /** Its xDS name, for example `Kubernetes//Pod/shop/cart-1` or `shop/cart.shop.svc.cluster.local`. */
  readonly name: string;
  /** Hash of `bytes`, so equal on every replica that holds the same state. */
  readonly version: string;
  /** The `value` of the `Any`. Never written to after it is made. */
  readonly bytes: Uint8Array;
}

/** What became of one object. `deleted` carries its last state, of which only the name matters. */
export interface ObjectChange {
  readonly resource: Resource;
  readonly type: "added" | "modified" | "deleted";
  readonly object: KubeObject;
}

/** Names that differ from before the update, sorted. A name is in at most one of the two. */
export interface ResourceDelta {
  readonly updated: readonly string[];
  readonly removed: readonly string[];
}

export interface MeshDelta {
  /** Workloads and services, `istio.workload.Address`. */
  readonly addresses: ResourceDelta;
  /** `istio.security.Authorization`. */
  readonly authorizations: ResourceDelta;
  /** Policies for waypoints of ours, `ambit.waypoint.Policy`. */
  readonly waypointPolicies: ResourceDelta;
  /**
   * Service names of `addresses.updated` and `addresses.removed`: every workload that names one of
   * them is to be sent again (`workloadsOfService`), though its own bytes are the same.
   */
  readonly services: readonly string[];
}

/** The mesh tables as the pusher reads them. The maps are live views: read them, keep no iterator. */
export interface MeshTables {
  addresses(): ReadonlyMap<string, EncodedResource>;
  authorizations(): ReadonlyMap<string, EncodedResource>;
  waypointPolicies(): ReadonlyMap<string, EncodedResource>;
  /** Names of the workloads whose `services` has this `namespace/hostname`. */
  workloadsOfService(service: string): ReadonlySet<string>;
  /** `namespace/hostname` keys of the services this workload is a member of. */
  servicesOfWorkload(uid: string): readonly string[];
  /** Resolves `network/ip`, a uid or `namespace/hostname` to resource names (workloads first, then service and members). */
  lookup(name: string): readonly string[];
}
