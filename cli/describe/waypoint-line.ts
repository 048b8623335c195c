// "Waypoint to-service …": which waypoint traffic to an object meets, by whose label, and whether it is up to it.
import type { KubeObject } from "#lib/kube/cluster.ts";
import { findGateway, gatewayClassOf, type MeshView } from "../kube/mesh-view.ts";
import { takes, trafficOf, waypointFault, waypointUse } from "../kube/waypoints.ts";

export interface WaypointAnswer {
  /** `namespace/name` of one that works, `null` otherwise. */
  readonly waypoint: string | null;
  readonly text: string;
  readonly notes: readonly string[];
}

export function waypointAnswer(
  object: KubeObject,
  kind: "service" | "workload",
  view: MeshView,
): WaypointAnswer {
  const namespace = view.namespaces.get(object.metadata.namespace ?? object.metadata.name) ?? null;
  const use = waypointUse(object, namespace);
  if (use === null) return { waypoint: null, text: "none", notes: [] };
  const name = `${use.namespace}/${use.name}`;
  const label = use.level === "own" ? "own label" : "namespace label";
  const gateway = findGateway(view, use);
  const gatewayClass = gateway === null ? null : gatewayClassOf(view, gateway);
  const fault =
    namespace === null ? "missing" : waypointFault(use, kind, namespace, gateway, gatewayClass);
  if (fault !== null)
    return {
      waypoint: null,
      text: `none (${label} asks for ${name})`,
      notes: [`${name} is ${fault}: policies with targetRefs are bypassed (C33)`],
    };
  const traffic = gateway === null ? "service" : trafficOf(gateway, gatewayClass);
  if (!takes(traffic, kind))
    return { waypoint: null, text: `none (${name} takes ${traffic} traffic only)`, notes: [] };
  return { waypoint: name, text: `${name} (${label})`, notes: [] };
}
