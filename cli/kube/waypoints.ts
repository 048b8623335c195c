// Waypoints as labels and Gateways say: who asks for which, and what it takes. Source: istiod's rules of resolution
// (istio `pilot/pkg/serviceregistry/kube/controller/ambient/waypoints.go`).
import type { Gateway, GatewayClass, Namespace } from "#lib/kube/objects.ts";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { PORT } from "#lib/net/ports.ts";
import { compileLabelSelector } from "#lib/kube/labels.ts";
import { conditionOf } from "./pod-state.ts";

export const WAYPOINT_CLASS = "istio-waypoint";
/** Controller names of classes whose Gateways are made by istiod. */
export const OUR_CONTROLLERS = [
  "istio.io/mesh-controller",
  "istio.io/gateway-controller",
  "istio.io/eastwest-controller",
  "istio.io/unmanaged-gateway",
];
export const USE_WAYPOINT = "istio.io/use-waypoint";
export const USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace";
export const WAYPOINT_FOR = "istio.io/waypoint-for";
export const FOR_SERVICE_ACCOUNT = "istio.io/for-service-account";
export const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name";

export const TRAFFIC_TYPES = ["service", "workload", "all", "none"] as const;
export type TrafficType = (typeof TRAFFIC_TYPES)[number];
/** Where neither Gateway nor class say. */
export const DEFAULT_TRAFFIC: TrafficType = "service";

export interface WaypointUse {
  readonly namespace: string;
  readonly name: string;
  /** Whose label asks. */
  readonly level: "own" | "namespace";
}

/** The waypoint `object` asks for; `null` for none, be it by `none` or by nothing. */
export function waypointUse(object: KubeObject, namespace: Namespace | null): WaypointUse | null {
  const home = object.metadata.namespace ?? object.metadata.name;
  for (const [level, labels] of [
    ["own", object.metadata.labels],
    ["namespace", namespace?.metadata.labels],
  ] as const) {
    const name = labels?.[USE_WAYPOINT];
    if (name === undefined || name === "") continue;
    if (name === "none") return null;
    return { name, namespace: labels?.[USE_WAYPOINT_NAMESPACE] ?? home, level };
  }
  return null;
}

/** The label's value; any word but the known ones means none. */
export function trafficOf(gateway: Gateway, gatewayClass: GatewayClass | null): TrafficType {
  const text =
    gateway.metadata.labels?.[WAYPOINT_FOR] ?? gatewayClass?.metadata.labels?.[WAYPOINT_FOR];
  if (text === undefined) return DEFAULT_TRAFFIC;
  return TRAFFIC_TYPES.find((t) => t === text) ?? "none";
}

export function takes(traffic: TrafficType, kind: "service" | "workload"): boolean {
  return traffic === "all" || traffic === kind;
}

export function isWaypoint(gateway: Gateway): boolean {
  const name = gateway.spec?.gatewayClassName;
  return name === WAYPOINT_CLASS || meshListener(gateway) !== undefined;
}

export function meshListener(
  gateway: Gateway,
): NonNullable<NonNullable<Gateway["spec"]>["listeners"]>[number] | undefined {
  return gateway.spec?.listeners?.find((l) => l.protocol === "HBONE" && l.port === PORT.hbone);
}

export function isProgrammed(gateway: Gateway): boolean {
  return conditionOf(gateway.status?.conditions, "Programmed")?.status === "True";
}

/** Whether objects of `namespace` may use the waypoint. */
export function admits(gateway: Gateway, namespace: Pick<Namespace, "metadata">): boolean {
  const allowed = meshListener(gateway)?.allowedRoutes?.namespaces;
  switch (allowed?.from ?? "Same") {
    case "All":
      return true;
    case "Selector":
      return compileLabelSelector(allowed?.selector ?? {})(namespace.metadata.labels);
    default:
      return gateway.metadata.namespace === namespace.metadata.name;
  }
}

export type WaypointFault = "missing" | "not programmed" | "wrong type" | "not admitted";

/** Why istiod would not bind `use` for this kind of traffic; `null` when it would. */
export function waypointFault(
  use: WaypointUse,
  kind: "service" | "workload",
  from: Pick<Namespace, "metadata">,
  gateway: Gateway | null,
  gatewayClass: GatewayClass | null,
): WaypointFault | null {
  if (gateway === null) return "missing";
  if ((gateway.status?.addresses ?? []).length === 0) return "not programmed";
  if (!admits(gateway, from)) return "not admitted";
  if (takes(trafficOf(gateway, gatewayClass), kind)) return null;
  return use.level === "own" ? "wrong type" : null;
}

export function classOf(gateway: Gateway, classes: readonly GatewayClass[]): GatewayClass | null {
  return classes.find((c) => c.metadata.name === gateway.spec?.gatewayClassName) ?? null;
}

/** The identity its pods have, as policies name it. */
export function waypointPrincipal(gateway: Gateway, trustDomain: string): string {
  const account =
    gateway.metadata.annotations?.["gateway.istio.io/service-account"] ?? gateway.metadata.name;
  return `${trustDomain}/ns/${gateway.metadata.namespace}/sa/${account}`;
}
