// The resource types of the mesh, in the order a client subscribes to them.

export const ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address";
export const AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization";
/** Bare workloads under the names and versions of Address; for Envoy's peer metadata extension. */
export const WORKLOAD_TYPE = "type.googleapis.com/istio.workload.Workload";
/** Ours: policies attached to waypoints by targetRefs. Served to waypoints only. */
export const WAYPOINT_POLICY_TYPE = "type.googleapis.com/ambit.waypoint.Policy";
export const POLICY_TYPES: ReadonlySet<string> = new Set([
  WAYPOINT_POLICY_TYPE,
  AUTHORIZATION_TYPE,
]);
