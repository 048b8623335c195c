// Workloads that are no Pods: WorkloadEntries, inline and implied endpoints of ServiceEntries, and
// other endpoints of EndpointSlices. Source: istio pilot/pkg/serviceregistry/ambient/workloads.go.
import { nonEmptySelects } from "#lib/kube/labels.ts";
import { tryParseIp } from "#lib/net/ip.ts";
import { NetworkMode, type Workload, WorkloadStatus } from "#lib/wire/gen/workload.gen.ts";
import type { Reads } from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import { ipBytes } from "./encode.ts";
import { entryWorkloadName } from "./names.ts";
import {
  type Endpoint,
  type EndpointSlice,
  REDIRECTION,
  type ServiceEntry,
  type WorkloadEntry,
} from "./objects.ts";
import type { MemberPort, Membership } from "./services.ts";
import {
  mapPorts,
  memberOfSlice,
  naming,
  numberOf,
  published,
  type PublishedWorkload,
  tunnel,
  type WorkloadTables,
} from "./workload-tables.ts";

export function* entryWorkload(
  entry: WorkloadEntry,
  reads: Reads,
  tables: WorkloadTables,
): Generator<[string, PublishedWorkload]> {
  const { config } = tables;
  const { endpoint, labels, namespace } = entry;
  const members = reads.index(
    tables.membersByNamespace,
    namespace,
    (m) =>
      (m.source === "ServiceEntry" || config.servicesSelectWorkloadEntries) &&
      nonEmptySelects(m.selector ?? undefined, labels),
  );
  const redirected = entry.annotations[REDIRECTION] === "enabled";
  const workloadName = entryWorkloadName(entry.name, labels, entry.annotations);
  yield published(
    {
      uid: entryUid(entry, config),
      name: entry.name,
      namespace,
      ...located(endpoint),
      ...tunnel(labels, redirected),
      ...naming(labels, workloadName),
    },
    {
      members,
      ports: (m) => mapPorts(m.ports, (p) => entryTarget(endpoint, m.source, p)),
      requester: { namespace, labels },
      policyLabels: labels,
      addresses: endpoint.ip === null ? [] : [endpoint.ip],
      network: endpoint.network,
    },
    reads,
    tables,
  );
}

export function entryUid(entry: WorkloadEntry, config: TranslateConfig): string {
  return `${config.clusterId}/networking.istio.io/WorkloadEntry/${entry.key}`;
}

/** Inline endpoints, or the host names themselves when DNS is to give the endpoints. */
export function* serviceEntryWorkloads(
  entry: ServiceEntry,
  reads: Reads,
  tables: WorkloadTables,
): Generator<[string, PublishedWorkload]> {
  const isImplied =
    entry.endpoints.length === 0 && entry.selector === null && /DNS/.test(entry.resolution);
  if (entry.endpoints.length === 0 && !isImplied) return;
  const members = reads.index(tables.membersBySource, `ServiceEntry/${entry.key}`);
  if (members.length === 0) return;
  if (isImplied) {
    for (const member of members)
      yield entryEndpoint(entry, impliedEndpoint(member.hostname), [member], true, reads, tables);
    return;
  }
  for (const endpoint of entry.endpoints)
    yield entryEndpoint(entry, endpoint, members, false, reads, tables);
}

function entryEndpoint(
  entry: ServiceEntry,
  endpoint: Endpoint,
  members: readonly Membership[],
  isImplied: boolean,
  reads: Reads,
  tables: WorkloadTables,
): [string, PublishedWorkload] {
  const { namespace, name, labels } = entry;
  return published(
    {
      uid: `${tables.config.clusterId}/networking.istio.io/ServiceEntry/${entry.key}/${endpoint.address}`,
      name,
      namespace,
      ...located(endpoint),
      ...tunnel(labels, entry.annotations[REDIRECTION] === "enabled"),
      ...naming(labels, name),
    },
    {
      members,
      ports: (m) => mapPorts(m.ports, (p) => entryTarget(endpoint, m.source, p)),
      requester: isImplied ? null : { namespace, labels: endpoint.labels },
      policyLabels: labels,
      addresses: endpoint.ip === null ? [] : [endpoint.ip],
      network: endpoint.network,
    },
    reads,
    tables,
  );
}

/** Endpoints that are no Pods. Their addresses may be used by others too, so they are not unique. */
export function* sliceWorkloads(
  slice: EndpointSlice,
  reads: Reads,
  tables: WorkloadTables,
): Generator<[string, PublishedWorkload]> {
  if (!slice.endpoints.some((e) => e.pod === null)) return;
  const member = memberOfSlice(slice, reads, tables);
  if (member === undefined) return;
  const ports = slice.ports.flatMap(({ name, port }) =>
    member.ports
      .filter((p) => p.name === name)
      .map((p) => ({ servicePort: p.port, targetPort: port, appProtocol: 0 as const })),
  );
  for (const { addresses, isReady, pod } of slice.endpoints) {
    const ips = addresses.map(tryParseIp);
    if (pod !== null || ips.length === 0 || !ips.every((ip) => ip !== null)) continue;
    yield published(
      {
        uid: `${tables.config.clusterId}/discovery.k8s.io/EndpointSlice/${slice.key}/${ips[0]}`,
        name: slice.name,
        namespace: slice.namespace,
        addresses: ips.map(ipBytes),
        networkMode: NetworkMode.HOST_NETWORK,
        status: isReady ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
      },
      {
        members: [member],
        ports: () => ({ ports }),
        requester: null,
        policyLabels: null,
        addresses: ips,
        network: "",
      },
      reads,
      tables,
    );
  }
}

function located(endpoint: Endpoint): Partial<Workload> {
  return {
    addresses: endpoint.ip === null ? [] : [ipBytes(endpoint.ip)],
    hostname: endpoint.ip === null ? endpoint.address : "",
    serviceAccount: endpoint.serviceAccount,
    locality: endpoint.locality ?? undefined,
    capacity: endpoint.weight > 0 ? endpoint.weight : undefined,
  };
}

function impliedEndpoint(host: string): Endpoint {
  return {
    address: host,
    ip: null,
    ports: {},
    labels: {},
    network: "",
    locality: null,
    weight: 0,
    serviceAccount: "",
  };
}

function entryTarget(
  endpoint: Endpoint,
  source: Membership["source"],
  port: MemberPort,
): number | null {
  if (source === "Service" && typeof port.target === "string")
    return ownPort(endpoint, port.target);
  return ownPort(endpoint, port.name) ?? numberOf(port.target);
}

function ownPort(endpoint: Endpoint, name: string): number | null {
  return Object.hasOwn(endpoint.ports, name) ? (endpoint.ports[name] ?? null) : null;
}
