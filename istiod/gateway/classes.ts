// The GatewayClasses this control plane serves. Of Istio's table only the waypoint one is needed by
// ambient mode in one cluster: there is no ingress gateway program, and one network needs no east-west one.
import type { Gateway, GatewayClass } from "#lib/kube/objects.ts";

export interface ManagedClass {
  readonly name: string;
  /** `spec.controllerName`: a class of any name with this controller behaves the same. */
  readonly controllerName: string;
  /** Value of the label `gateway.istio.io/managed`. */
  readonly managedBy: string;
  readonly defaultServiceType: string;
  readonly description: string;
}

export const WAYPOINT_CLASS: ManagedClass = {
  name: "istio-waypoint",
  controllerName: "istio.io/mesh-controller",
  managedBy: "istio.io-mesh-controller",
  defaultServiceType: "ClusterIP",
  description: "Layer 7 proxy of services and workloads in the mesh",
};

/** Made when they are missing, never changed. */
export const BUILT_IN_CLASSES: readonly ManagedClass[] = [WAYPOINT_CLASS];

/** @param object what the name stands for; a built-in name needs no object */
export function classNamed(name: string, object: GatewayClass | undefined): ManagedClass | null {
  const found =
    object === undefined
      ? BUILT_IN_CLASSES.find((c) => c.name === name)
      : BUILT_IN_CLASSES.find((c) => c.controllerName === object.spec?.controllerName);
  return found ?? null;
}

/** @returns `null` for classes of other controllers */
export function classOf(gateway: Gateway, object: GatewayClass | undefined): ManagedClass | null {
  return classNamed(gateway.spec?.gatewayClassName ?? "", object);
}

/** False when somebody else runs what the Gateway names as its addresses. */
export function isDeployed(gateway: Gateway): boolean {
  const addresses = gateway.spec?.addresses ?? [];
  const [first] = addresses;
  return (
    first === undefined || (addresses.length === 1 && (first.type ?? "IPAddress") === "IPAddress")
  );
}
