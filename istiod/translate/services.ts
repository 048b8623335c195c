// Services: one record per Kubernetes Service and per host of a ServiceEntry, then the winners of
// each hostname. Source: istio pilot/pkg/serviceregistry/ambient/services.go.
import { compileLabelSelector, type Labels } from "#lib/kube/labels.ts";
import {
  type GatewayAddress,
  IPFamilies,
  type LoadBalancing,
  type NetworkAddress,
  type Port,
  Service_Visibility,
  type WeightedWaypoint,
} from "#lib/wire/gen/workload.gen.ts";
import type { Reads } from "./collection.ts";
import type { ServiceEntryVisibility, TranslateConfig, VisibilityName } from "./config.ts";
import { encodeService, networkAddress, networkRange } from "./encode.ts";
import type { EncodedResource } from "./mesh.ts";
import { compare, type Namespace, olderFirst, type Service, type ServiceEntry } from "./objects.ts";
import {
  entryLoadBalancing,
  entryPortProtocol,
  serviceLoadBalancing,
  servicePortProtocol,
} from "./service-fields.ts";
import { serviceWaypoint, type ServiceWaypoint, type WaypointTables } from "./waypoints.ts";

/** One port as members map it: the number, or the name that each member resolves for itself. */
export interface MemberPort {
  readonly name: string;
  readonly port: number;
  readonly target: number | string;
}

/** What decides who is a member of a service, and with which ports. */
export interface Membership {
  /** `namespace/hostname`. */
  readonly key: string;
  readonly namespace: string;
  readonly source: "Service" | "ServiceEntry";
  /** Key of the Service or ServiceEntry. */
  readonly sourceKey: string;
  readonly hostname: string;
  readonly selector: Labels | null;
  readonly ports: readonly MemberPort[];
}

export interface ServiceRecord {
  readonly membership: Membership;
  readonly name: string;
  readonly createdAt: string;
  readonly addresses: readonly NetworkAddress[];
  readonly ports: readonly Port[];
  readonly subjectAltNames: readonly string[];
  readonly loadBalancing: LoadBalancing | undefined;
  readonly ipFamilies: IPFamilies;
  readonly visibility: Service_Visibility;
  readonly waypoint: ServiceWaypoint;
}

export interface PublishedService extends ServiceRecord {
  readonly canonical: boolean;
}

/** `null` for ExternalName: DNS resolves it elsewhere, and the target is handled on its own. */
export function serviceRecord(
  service: Service,
  network: string,
  config: TranslateConfig,
  tables: WaypointTables,
  reads: Reads,
): ServiceRecord | null {
  if (service.isExternalName) return null;
  const { key, namespace, name } = service;
  const hostname = `${name}.${namespace}.svc.${config.domain}`;
  return {
    membership: {
      key: `${namespace}/${hostname}`,
      namespace,
      source: "Service",
      sourceKey: key,
      hostname,
      selector: service.selector,
      ports: service.ports,
    },
    name,
    createdAt: service.createdAt,
    addresses: service.ips.map((ip) => networkAddress(network, ip)),
    ports: service.ports.map((p) => ({
      servicePort: p.port,
      targetPort: typeof p.target === "number" ? p.target : 0,
      appProtocol: servicePortProtocol(p),
    })),
    subjectAltNames: [],
    loadBalancing: serviceLoadBalancing(service, reads.key(tables.namespaces, namespace)),
    ipFamilies: families(service.ipFamilies),
    visibility: Service_Visibility.PUBLIC,
    waypoint: serviceWaypoint({ ...service, isNamespacePrivate: false }, tables, reads),
  };
}

/** One per host; none when the entry is not visible or an address cannot be read. */
export function entryRecords(
  entry: ServiceEntry,
  network: string,
  visibilityOf: VisibilityOf,
  tables: WaypointTables,
  reads: Reads,
): readonly ServiceRecord[] {
  const { addresses, key, namespace, name } = entry;
  const home = reads.key(tables.namespaces, namespace);
  const visible = visibilityOf(home);
  if (addresses === null || visible === "NONE") return [];
  const isNamespacePrivate = visible === "NAMESPACE";
  const waypoint = serviceWaypoint({ ...entry, isNamespacePrivate }, tables, reads);
  const given = addresses.map((cidr) => networkRange(network, cidr));
  return [...new Set(entry.hosts)].map((hostname) => ({
    membership: {
      key: `${namespace}/${hostname}`,
      namespace,
      source: "ServiceEntry",
      sourceKey: key,
      hostname,
      selector: entry.selector,
      ports: entry.ports.map((p) => ({ name: p.name, port: p.number, target: p.target })),
    },
    name,
    createdAt: entry.createdAt,
    addresses: given.length > 0 ? given : allocated(entry, hostname, network),
    ports: entry.ports.map((p) => ({
      servicePort: p.number,
      targetPort: p.target,
      appProtocol: entryPortProtocol(p.protocol),
    })),
    subjectAltNames: entry.subjectAltNames,
    loadBalancing: entryLoadBalancing(entry, home),
    ipFamilies: IPFamilies.AUTOMATIC,
    visibility: isNamespacePrivate ? Service_Visibility.NAMESPACE : Service_Visibility.PUBLIC,
    waypoint,
  }));
}

function allocated(entry: ServiceEntry, hostname: string, network: string): NetworkAddress[] {
  const isWildcard = hostname.startsWith("*");
  if (entry.resolution === "NONE" || (isWildcard && entry.resolution !== "DYNAMIC_DNS")) return [];
  return entry.allocated
    .filter((a) => a.host === hostname)
    .map(({ ip }) => networkAddress(network, ip));
}

/**
 * Of the records of one hostname: per namespace one is published, a Kubernetes Service before
 * entries, the oldest entry before others; one of those is canonical for the other namespaces.
 */
export function publish(records: readonly ServiceRecord[]): PublishedService[] {
  const winners: ServiceRecord[] = [];
  for (const record of [...records].sort(preferredFirst))
    if (!winners.some((w) => w.membership.namespace === record.membership.namespace))
      winners.push(record);
  const canonical = winners.find(
    (w) => w.membership.source === "Service" || w.visibility !== Service_Visibility.NAMESPACE,
  );
  return winners.map((w) => ({ ...w, canonical: w === canonical }));
}

function preferredFirst(a: ServiceRecord, b: ServiceRecord): number {
  const rank = (r: ServiceRecord): number => (r.membership.source === "Service" ? 0 : 1);
  return rank(a) - rank(b) || olderFirst(age(a), age(b));
}

function age(r: ServiceRecord): { readonly key: string; readonly createdAt: string } {
  return { key: r.membership.sourceKey, createdAt: r.createdAt };
}

export function encodedService(service: PublishedService): EncodedResource {
  const { membership, waypoint: bound } = service;
  return encodeService({
    name: service.name,
    namespace: membership.namespace,
    hostname: membership.hostname,
    addresses: [...service.addresses],
    ports: [...service.ports],
    subjectAltNames: [...service.subjectAltNames].sort(compare),
    waypoint: primaryAddress(bound),
    weightedWaypoints: weighted(bound),
    ingressUseWaypoint: bound.ingress,
    loadBalancing: service.loadBalancing,
    ipFamilies: service.ipFamilies,
    canonical: service.canonical,
    visibility: service.visibility,
  });
}

function primaryAddress({ primary }: ServiceWaypoint): GatewayAddress | undefined {
  return primary.kind === "bound" ? primary.waypoint.address : undefined;
}

function weighted({ primary, canary }: ServiceWaypoint): WeightedWaypoint[] {
  if (primary.kind !== "bound" || canary === null) return [];
  return [
    { destination: primary.waypoint.address, weight: 100 - canary.weight },
    { destination: canary.waypoint.address, weight: canary.weight },
  ];
}

function families(names: readonly string[]): IPFamilies {
  if (names.length >= 2) return IPFamilies.DUAL;
  if (names.length === 0) return IPFamilies.AUTOMATIC;
  return names[0] === "IPv6" ? IPFamilies.IPV6_ONLY : IPFamilies.IPV4_ONLY;
}

export type VisibilityOf = (namespace: Namespace | undefined) => VisibilityName;

/** @throws {KubeError} `INVALID` for a selector that cannot be evaluated */
export function compileVisibility(config: ServiceEntryVisibility | null): VisibilityOf {
  if (config === null) return () => "PUBLIC";
  const policies = config.policies.map(({ visibility, matchingRules }) => ({
    visibility,
    rules: matchingRules.map(({ namespaceSelector }) =>
      // A rule of a later version may say more than this one can read: it never matches.
      namespaceSelector === undefined ? () => false : compileLabelSelector(namespaceSelector),
    ),
  }));
  return (namespace) => {
    const labels = namespace?.labels ?? {};
    const found = policies.find((p) => p.rules.every((matches) => matches(labels)));
    return found?.visibility ?? config.defaultVisibility;
  };
}
