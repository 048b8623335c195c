// Gateways and settings for the tests of this room.
import type { Gateway } from "#lib/kube/objects.ts";
import type { GatewaySettings, ProgramImage } from "./settings.ts";

export const PROGRAM: ProgramImage = { image: "ambit:dev", imagePullPolicy: null };

export const SETTINGS: GatewaySettings = {
  systemNamespace: "istio-system",
  revision: "",
  domain: "cluster.local",
  trustDomain: "cluster.local",
  clusterId: "Kubernetes",
  network: null,
  istiodAddress: null,
  rootConfigMap: "istio-ca-root-cert",
  copiesMetadata: true,
};

/** `shop/waypoint` with its one listener, changed as given. */
export function waypointGateway(
  given: {
    readonly metadata?: Partial<Gateway["metadata"]>;
    readonly spec?: Gateway["spec"];
    readonly status?: Gateway["status"];
  } = {},
): Gateway {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name: "waypoint", namespace: "shop", uid: "1", generation: 1, ...given.metadata },
    spec: {
      gatewayClassName: "istio-waypoint",
      listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }],
      ...given.spec,
    },
    ...(given.status === undefined ? {} : { status: given.status }),
  };
}
