// What a mesh knows about one address-bearing thing: the Workload of the Workload API, parsed once.
// Source: istio workload.proto; defaults are resolved here, so readers never see an empty trust domain.
import type { Ip } from "../net/ip.ts";
import { spiffeId, type SpiffeId } from "../net/spiffe.ts";

/** Where a waypoint or gateway is found: by service host name, or by address on a network. */
export type GatewayAddress =
  | {
      readonly kind: "hostname";
      readonly namespace: string;
      readonly hostname: string;
      readonly hbonePort: number;
    }
  | {
      readonly kind: "address";
      readonly network: string;
      readonly ip: Ip;
      readonly hbonePort: number;
    };

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** service port → target port of this endpoint. */
export type PortMap = ReadonlyMap<number, number>;

export interface Workload {
  /** Primary key, e.g. `Kubernetes//Pod/shop/cart-1`. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly addresses: readonly Ip[];
  /** Resolved by the client when there is no usable address. */
  readonly hostname: string;
  readonly network: string;
  readonly protocol: "HBONE" | "TCP";
  readonly networkMode: "Standard" | "HostNetwork";
  readonly trustDomain: string;
  readonly serviceAccount: string;
  readonly node: string;
  readonly waypoint: GatewayAddress | null;
  readonly networkGateway: GatewayAddress | null;
  readonly applicationTunnel: {
    readonly protocol: "NONE" | "PROXY";
    readonly port: number | null;
  } | null;
  readonly nativeTunnel: boolean;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly workloadName: string;
  readonly workloadType: "deployment" | "cronjob" | "pod" | "job";
  /** Resource names (`namespace/name`) of the selector policies that apply here. */
  readonly authorizationPolicies: readonly string[];
  readonly status: "Healthy" | "Unhealthy";
  readonly clusterId: string;
  readonly locality: Locality;
  /** `namespace/hostname` → this endpoint's port mapping. */
  readonly services: ReadonlyMap<string, PortMap>;
  /** Load-balancing weight; 0 is never chosen. */
  readonly capacity: number;
}

export const NO_LOCALITY: Locality = Object.freeze({ region: "", zone: "", subzone: "" });

/** The identity this workload's certificate carries. */
export function identityOf(
  w: Pick<Workload, "trustDomain" | "namespace" | "serviceAccount">,
): SpiffeId {
  return spiffeId(w);
}
