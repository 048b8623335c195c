// `ztunnel-config workload` and `service`: istioctl's columns, one row per workload or service of the mesh.
import type { ConfigDump, DumpService, DumpWorkload } from "../source/config-dump.ts";
import { gatewayIndex, gatewayName } from "./gateway-name.ts";
import type { Column } from "./table.ts";

/** A record and the ztunnels that hold it. */
export interface Held<T> {
  readonly record: T;
  readonly nodes: readonly string[];
}

export interface NodeDump {
  readonly node: string;
  readonly value: ConfigDump;
}

export type WorkloadRow = Held<DumpWorkload> & { readonly waypoint: string };
export type ServiceRow = Held<DumpService> & {
  readonly waypoint: string;
  readonly healthy: number;
};

export interface WorkloadFilter {
  readonly namespace?: string | undefined;
  readonly node?: string | undefined;
  readonly address?: string | undefined;
  readonly name?: string | undefined;
}

/** Every record once, by `key`; when ztunnels disagree the first node's wins. */
export function mergeRecords<T>(
  dumps: readonly NodeDump[],
  records: (dump: ConfigDump) => readonly T[],
  key: (record: T) => string,
): Held<T>[] {
  const merged = new Map<string, { record: T; nodes: string[] }>();
  for (const { node, value } of dumps)
    for (const record of records(value)) {
      const held = merged.get(key(record));
      if (held === undefined) merged.set(key(record), { record, nodes: [node] });
      else held.nodes.push(node);
    }
  return [...merged.values()];
}

export function workloadRows(dumps: readonly NodeDump[], filter: WorkloadFilter): WorkloadRow[] {
  const services = gatewayIndex(dumps.flatMap((d) => d.value.services));
  return mergeRecords(
    dumps,
    (d) => d.workloads,
    (w) => w.uid,
  )
    .filter(({ record: w }) => {
      if (filter.namespace !== undefined && w.namespace !== filter.namespace) return false;
      if (filter.node !== undefined && w.node !== filter.node) return false;
      if (filter.name !== undefined && w.name !== filter.name) return false;
      return filter.address === undefined || w.addresses.includes(filter.address);
    })
    .map((held) => ({ ...held, waypoint: gatewayName(held.record.waypoint, services) }))
    .sort(
      (a, b) =>
        compare(a.record.namespace, b.record.namespace) ||
        compare(a.record.name, b.record.name) ||
        compare(a.record.node, b.record.node),
    );
}

export const WORKLOAD_COLUMNS: readonly Column<WorkloadRow>[] = [
  { header: "NAMESPACE", value: (r) => r.record.namespace },
  { header: "POD NAME", value: (r) => r.record.name },
  { header: "ADDRESS", value: (r) => r.record.addresses.join(",") || r.record.hostname },
  { header: "NODE", value: (r) => r.record.node },
  { header: "WAYPOINT", value: (r) => r.waypoint },
  { header: "PROTOCOL", value: (r) => r.record.protocol },
  { header: "IDENTITY", wide: true, value: (r) => identityOf(r.record) },
  { header: "STATUS", wide: true, value: (r) => r.record.status },
  { header: "NODE-OF-ZTUNNEL", wide: true, value: (r) => r.nodes.join(",") },
];

export function serviceRows(
  dumps: readonly NodeDump[],
  namespace: string | undefined,
): ServiceRow[] {
  const services = gatewayIndex(dumps.flatMap((d) => d.value.services));
  const status = new Map<string, string>();
  for (const d of dumps) for (const w of d.value.workloads) status.set(w.uid, w.status);
  return mergeRecords(
    dumps,
    (d) => d.services,
    (s) => `${s.namespace}/${s.hostname}`,
  )
    .filter(({ record: s }) => namespace === undefined || s.namespace === namespace)
    .map((held) => ({
      ...held,
      waypoint: gatewayName(held.record.waypoint, services),
      healthy: held.record.endpointUids.filter((uid) => status.get(uid) === "Healthy").length,
    }))
    .sort(
      (a, b) =>
        compare(a.record.namespace, b.record.namespace) ||
        compare(a.record.name, b.record.name) ||
        compare(a.record.hostname, b.record.hostname),
    );
}

export const SERVICE_COLUMNS: readonly Column<ServiceRow>[] = [
  { header: "NAMESPACE", value: (r) => r.record.namespace },
  { header: "SERVICE NAME", value: (r) => r.record.name },
  { header: "SERVICE VIP", value: (r) => r.record.vips.map(ipOfVip).join(",") },
  { header: "WAYPOINT", value: (r) => r.waypoint },
  { header: "ENDPOINTS", value: (r) => `${r.healthy}/${r.record.endpointUids.length}` },
  { header: "HOSTNAME", wide: true, value: (r) => r.record.hostname },
  { header: "NODE-OF-ZTUNNEL", wide: true, value: (r) => r.nodes.join(",") },
];

/** The identity a workload's certificate carries. */
export function identityOf(w: DumpWorkload): string {
  return `spiffe://${w.trustDomain}/ns/${w.namespace}/sa/${w.serviceAccount}`;
}

/** `network/ip` → `ip`. */
export function ipOfVip(vip: string): string {
  return vip.slice(vip.indexOf("/") + 1);
}

/** Byte order, as istioctl sorts. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
