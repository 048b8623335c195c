// The Service of the Workload API, parsed once. Source: istio workload.proto.
import type { Cidr } from "../net/cidr.ts";
import type { Ip } from "../net/ip.ts";
import type { GatewayAddress } from "./workload.ts";

export type Scope = "Region" | "Zone" | "Subzone" | "Node" | "Cluster" | "Network";

export interface LoadBalancing {
  readonly preferences: readonly Scope[];
  /** `Standard`: no locality preference. `Passthrough`: keep the original destination. */
  readonly mode: "Standard" | "Strict" | "Failover" | "Passthrough";
  readonly healthPolicy: "OnlyHealthy" | "AllowAll";
}

export interface ServicePort {
  /** 0: named on the Kubernetes side, so the endpoint's own map decides. */
  readonly targetPort: number;
  readonly appProtocol: "UNKNOWN" | "HTTP11" | "HTTP2" | "GRPC" | "TCP" | "TLS";
}

export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly { readonly network: string; readonly ip: Ip }[];
  readonly cidrVips: readonly { readonly network: string; readonly cidr: Cidr }[];
  readonly ports: ReadonlyMap<number, ServicePort>;
  readonly subjectAltNames: readonly string[];
  readonly waypoint: GatewayAddress | null;
  readonly weightedWaypoints: readonly {
    readonly destination: GatewayAddress;
    readonly weight: number;
  }[];
  readonly ingressUseWaypoint: boolean;
  readonly loadBalancing: LoadBalancing;
  readonly ipFamilies: "Automatic" | "IPv4Only" | "IPv6Only" | "Dual";
  readonly canonical: boolean;
  readonly visibility: "Public" | "Namespace";
}

export const DEFAULT_LOAD_BALANCING: LoadBalancing = Object.freeze({
  preferences: [],
  mode: "Standard",
  healthPolicy: "OnlyHealthy",
});

/** The key of a service everywhere: `namespace/hostname`. */
export function serviceKey(s: Pick<Service, "namespace" | "hostname">): string {
  return `${s.namespace}/${s.hostname}`;
}
