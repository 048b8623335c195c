// What the translator keeps of each object (reduce.ts makes them): small, parsed, and nothing that no
// table reads.
import type { Cidr } from "#lib/net/cidr.ts";
import type { Ip } from "#lib/net/ip.ts";
import { PORT } from "#lib/net/ports.ts";
import type { Labels } from "#lib/kube/labels.ts";
import type * as kube from "#lib/kube/objects.ts";

export interface Identified {
  /** `namespace/name`, or `name` of what is in no namespace. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Labels;
  /** RFC 3339; "" sorts first. */
  readonly createdAt: string;
  /** `istio.io/rev`; "" when it has none. */
  readonly revision: string;
}

export interface Namespace extends Identified {
  readonly annotations: Labels;
}

export interface Node extends Identified {
  readonly locality: Locality | null;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

export interface Pod extends Identified {
  readonly uid: string;
  readonly redirected: boolean;
  readonly generateName: string;
  readonly owner: { readonly kind: string; readonly name: string } | null;
  readonly serviceAccount: string;
  readonly node: string;
  readonly hostNetwork: boolean;
  /** Named TCP ports, the first of a name first. */
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  /** `null`: has none yet, has an unreadable one, or has ended. */
  readonly ips: readonly Ip[] | null;
  readonly isReady: boolean;
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  /** The number, or the name of a container port. */
  readonly target: number | string;
  readonly protocol: string;
  readonly appProtocol: string | null;
}

export interface Service extends Identified {
  readonly annotations: Labels;
  readonly generation: number;
  readonly isExternalName: boolean;
  readonly ips: readonly Ip[];
  readonly selector: Labels;
  readonly ports: readonly ServicePort[];
  readonly ipFamilies: readonly string[];
  readonly isNodeLocal: boolean;
  readonly trafficDistribution: string;
  readonly publishNotReady: boolean;
}

export interface EndpointSlice extends Identified {
  readonly service: string | null;
  readonly isFqdn: boolean;
  /** TCP only. */
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  readonly endpoints: readonly {
    readonly addresses: readonly string[];
    readonly isReady: boolean;
    /** `namespace/name/uid`; `null` for what is no Pod. */
    readonly pod: string | null;
  }[];
}

export interface Endpoint {
  readonly address: string;
  readonly ip: Ip | null;
  readonly ports: Readonly<Record<string, number>>;
  readonly labels: Labels;
  readonly network: string;
  readonly locality: Locality | null;
  readonly weight: number;
  readonly serviceAccount: string;
}

export interface WorkloadEntry extends Identified {
  readonly annotations: Labels;
  readonly generation: number;
  readonly endpoint: Endpoint;
}

export interface ServiceEntry extends Identified {
  readonly annotations: Labels;
  readonly generation: number;
  readonly hosts: readonly string[];
  /** `null`: one of them cannot be read. */
  readonly addresses: readonly Cidr[] | null;
  readonly allocated: readonly { readonly host: string; readonly ip: Ip }[];
  readonly ports: readonly {
    readonly name: string;
    readonly number: number;
    readonly target: number;
    readonly protocol: string;
  }[];
  readonly resolution: string;
  readonly endpoints: readonly Endpoint[];
  readonly selector: Labels | null;
  readonly subjectAltNames: readonly string[];
}

export interface AuthorizationPolicy extends Identified {
  readonly dryRun: string | null;
  readonly generation: number;
  /** `null`: every workload of its scope. */
  readonly selector: Labels | null;
  readonly targets: readonly kube.TargetRef[];
  readonly action: string;
  readonly rules: readonly kube.AuthorizationRule[];
}

export interface PeerAuthentication extends Identified {
  readonly selector: Labels | null;
  readonly mode: kube.MutualTlsMode;
  /** By port, ascending; UNSET ones left out. */
  readonly ports: readonly { readonly port: number; readonly isStrict: boolean }[];
}

export interface Gateway extends Identified {
  readonly className: string;
  readonly binding: string | null;
  readonly listeners: readonly kube.GatewayListener[];
  readonly addresses: readonly { readonly type: string; readonly value: string }[];
}

export interface GatewayClass extends Identified {
  readonly binding: string | null;
  readonly controller: string;
}

export const REDIRECTION = "ambient.istio.io/redirection";

/** How an EndpointSlice names a Pod: all three must agree, and a missing uid agrees with none. */
export function podReference(of: {
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
}): string {
  const uid = of.uid ?? "";
  return `${of.namespace ?? ""}/${of.name ?? ""}/${uid === "" ? "?" : uid}`;
}

type Aged = Pick<Identified, "createdAt" | "key">;

/** The earlier created first; ties by namespace and name, so that every replica agrees. */
export function olderFirst(a: Aged, b: Aged): number {
  return compare(a.createdAt, b.createdAt) || compare(a.key, b.key);
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Port of a waypoint's HBONE listener. */
export const HBONE_PORT = PORT.hbone;
