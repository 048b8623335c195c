// What the objects made for a Gateway take from this control plane rather than from the Gateway.

/** Image of the waypoint program, and when it is pulled: `null` leaves that to Kubernetes. */
export interface ProgramImage {
  readonly image: string;
  readonly imagePullPolicy: string | null;
}

export interface GatewaySettings {
  /** Where istiod runs. */
  readonly systemNamespace: string;
  /** "" is the default one. */
  readonly revision: string;
  /** DNS suffix of Services. */
  readonly domain: string;
  readonly trustDomain: string;
  readonly clusterId: string;
  /** `topology.istio.io/network` of what is deployed; `null`: the cluster has no named network. */
  readonly network: string | null;
  /** `host:port` of istiod as waypoints reach it; `null`: its Service in the system namespace. */
  readonly istiodAddress: string | null;
  /** ConfigMap of the root bundle, in every namespace. */
  readonly rootConfigMap: string;
  /** Labels and annotations of the Gateway go to what is made for it, unless it says which do. */
  readonly copiesMetadata: boolean;
}

/** `istiod.istio-system.svc:15012`, or that of the revision. */
export function istiodAddress(settings: GatewaySettings): string {
  const { istiodAddress: given, revision, systemNamespace } = settings;
  const name = revision === "" || revision === "default" ? "istiod" : `istiod-${revision}`;
  return given ?? `${name}.${systemNamespace}.svc:15012`;
}
