// What every workload is made with: the tables they read, the fields all kinds share, and the bytes.
// Source: istio pilot/pkg/serviceregistry/ambient/workloads.go.
import { type Labels, selects } from "#lib/kube/labels.ts";
import {
  type PortList,
  TunnelProtocol,
  type Workload,
  WorkloadType,
} from "#lib/wire/gen/workload.gen.ts";
import type { Collection, Index, Reads } from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import { addressKey, encodeWorkload } from "./encode.ts";
import type { EncodedResource } from "./mesh.ts";
import { canonicalName, canonicalRevision } from "./names.ts";
import { compare, type EndpointSlice, type Node } from "./objects.ts";
import { peerPolicies, type PeerAuthenticationTables } from "./peer-authentication.ts";
import type { MemberPort, Membership } from "./services.ts";
import {
  instanceOf,
  type Requester,
  type Resolution,
  UNBOUND,
  type WaypointTables,
  workloadWaypoint,
} from "./waypoints.ts";

const TUNNEL = "networking.istio.io/tunnel";

/** A selector policy as workloads see it: an edit of its rules is no change here. */
export interface Attachment {
  readonly key: string;
  readonly namespace: string;
  readonly selector: Labels;
}

/** An implicit policy that lets a waypoint's accounts in. */
export interface WaypointAllow {
  /** Key of the waypoint. */
  readonly key: string;
  /** Name of `resource`. */
  readonly policy: string;
  readonly resource: EncodedResource;
}

export interface WorkloadTables extends WaypointTables, PeerAuthenticationTables {
  readonly config: TranslateConfig;
  readonly network: Collection<string>;
  readonly nodes: Collection<Node>;
  readonly membersByNamespace: Index<Membership>;
  readonly membersBySource: Index<Membership>;
  readonly members: Collection<Membership>;
  /** EndpointSlices by the Pods they name. */
  readonly slicesByPod: Index<EndpointSlice>;
  readonly attachmentsByNamespace: Index<Attachment>;
  readonly waypointAllows: Collection<WaypointAllow>;
  /** Waypoint keys by service, for the implicit policies. */
  readonly waypointOfService: Collection<string>;
}

export interface PublishedWorkload {
  readonly resource: EncodedResource;
  /** `namespace/hostname`, sorted. */
  readonly services: readonly string[];
  /** `network/ip` keys. */
  readonly addresses: readonly string[];
  /** For the status of a WorkloadEntry. */
  readonly waypoint: Resolution;
}

export const NETWORK = "network";

export interface Context {
  readonly members: readonly Membership[];
  readonly ports: (member: Membership) => PortList;
  /** `null`: has no waypoint and is no instance of one. */
  readonly requester: Requester | null;
  /** `null`: no policy is attached. */
  readonly policyLabels: Labels | null;
  readonly addresses: readonly string[];
  /** "": the cluster's. */
  readonly network: string;
}

/** What all kinds share, then the bytes. */
export function published(
  own: Partial<Workload> & { uid: string; namespace: string },
  context: Context,
  reads: Reads,
  tables: WorkloadTables,
): [string, PublishedWorkload] {
  const { config } = tables;
  const { requester } = context;
  const network = context.network || (reads.key(tables.network, NETWORK) ?? "");
  const instance = requester === null ? null : instanceOf(requester, tables, reads);
  const waypoint =
    requester === null || instance !== null ? UNBOUND : workloadWaypoint(requester, tables, reads);
  const members = [...context.members].sort((a, b) => compare(a.key, b.key));
  const services = members.map((m) => m.key);
  const resource = encodeWorkload({
    ...own,
    network,
    clusterId: config.clusterId,
    trustDomain: config.trustDomain === "cluster.local" ? "" : config.trustDomain,
    services: new Map(members.map((m) => [m.key, context.ports(m)])),
    waypoint: waypoint.kind === "bound" ? waypoint.waypoint.address : undefined,
    applicationTunnel: instance?.binding ?? undefined,
    authorizationPolicies:
      context.policyLabels === null
        ? []
        : [
            ...selectorPolicies(own.namespace, context.policyLabels, reads, tables),
            ...peerPolicies(own.namespace, context.policyLabels, tables, reads),
            ...implicitAllows(waypoint, services, reads, tables),
          ],
  });
  const addresses = context.addresses.map((ip) => addressKey(network, ip));
  return [own.uid, { resource, services, addresses, waypoint }];
}

function selectorPolicies(
  namespace: string,
  labels: Labels,
  reads: Reads,
  tables: WorkloadTables,
): string[] {
  const root = tables.config.rootNamespace;
  const scopes = namespace === root ? [root] : [root, namespace];
  return scopes
    .flatMap((scope) =>
      reads.index(tables.attachmentsByNamespace, scope, (a) => selects(a.selector, labels)),
    )
    .map((a) => a.key)
    .sort(compare);
}

function implicitAllows(
  waypoint: Resolution,
  services: readonly string[],
  reads: Reads,
  tables: WorkloadTables,
): string[] {
  if (!tables.config.autoAllowWaypointPolicy) return [];
  const waypoints = new Set<string>();
  if (waypoint.kind === "bound") waypoints.add(waypoint.waypoint.key);
  for (const service of services) {
    const key = reads.key(tables.waypointOfService, service);
    if (key !== undefined) waypoints.add(key);
  }
  return [...waypoints]
    .flatMap((key) => reads.key(tables.waypointAllows, key)?.policy ?? [])
    .sort(compare);
}

export function memberOfSlice(
  slice: EndpointSlice,
  reads: Reads,
  tables: WorkloadTables,
): Membership | undefined {
  if (slice.service === null || slice.isFqdn) return undefined;
  const hostname = `${slice.service}.${slice.namespace}.svc.${tables.config.domain}`;
  return reads.key(tables.members, `${slice.namespace}/${hostname}`);
}

/** The node's agent sets the annotation after capture worked; the label says "I terminate HBONE myself". */
export function tunnel(labels: Labels, redirected: boolean): Partial<Workload> {
  const isNative = (labels[TUNNEL] ?? "").split(",").includes("http");
  return {
    tunnelProtocol: redirected || isNative ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    nativeTunnel: isNative,
  };
}

export function naming(labels: Labels, workloadName: string): Partial<Workload> {
  return {
    workloadName,
    workloadType: WorkloadType.POD,
    canonicalName: canonicalName(labels, workloadName),
    canonicalRevision: canonicalRevision(labels),
  };
}

/** A port that this endpoint cannot map is left out; the service stays. */
export function mapPorts(
  ports: readonly MemberPort[],
  target: (p: MemberPort) => number | null,
): PortList {
  return {
    ports: ports.flatMap((p) => {
      const targetPort = target(p);
      return targetPort === null ? [] : [{ servicePort: p.port, targetPort, appProtocol: 0 }];
    }),
  };
}

export function numberOf(target: number | string): number | null {
  return typeof target === "number" ? target : null;
}
