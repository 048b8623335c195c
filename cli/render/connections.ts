// `ztunnel-config connections`: istioctl's columns, with names for addresses unless raw.
import type { DumpConnection, DumpPod } from "../source/config-dump.ts";
import type { Column } from "./table.ts";
import { compare, ipOfVip, type NodeDump } from "./workloads.ts";

export interface ConnectionRow {
  readonly node: string;
  readonly pod: DumpPod;
  readonly connection: DumpConnection;
  readonly local: string;
  readonly remote: string;
  readonly remoteTarget: string;
}

export interface ConnectionFilter {
  readonly namespace?: string | undefined;
  readonly direction?: "inbound" | "outbound" | undefined;
  readonly pod?: string | undefined;
  readonly raw: boolean;
}

export function connectionRows(
  dumps: readonly NodeDump[],
  filter: ConnectionFilter,
): ConnectionRow[] {
  const names = filter.raw ? new Map<string, string>() : addressNames(dumps);
  const show = (address: string): string => nameOf(address, names);
  return dumps
    .flatMap(({ node, value }) => value.pods.map((pod) => ({ node, pod })))
    .filter(
      ({ pod }) =>
        (filter.namespace === undefined || pod.namespace === filter.namespace) &&
        (filter.pod === undefined || pod.name === filter.pod),
    )
    .sort((a, b) => compare(a.pod.namespace, b.pod.namespace) || compare(a.pod.name, b.pod.name))
    .flatMap(({ node, pod }) =>
      pod.connections
        .filter((c) => filter.direction === undefined || c.direction === filter.direction)
        .map((connection): ConnectionRow => {
          const isInbound = connection.direction === "inbound";
          return {
            node,
            pod,
            connection,
            local: show(isInbound ? connection.actualDst : connection.src),
            remote: show(isInbound ? connection.src : connection.actualDst),
            remoteTarget: isInbound ? connection.originalDst : show(connection.originalDst),
          };
        }),
    );
}

export const CONNECTION_COLUMNS: readonly Column<ConnectionRow>[] = [
  { header: "WORKLOAD", value: (r) => `${r.pod.name}.${r.pod.namespace}` },
  {
    header: "DIRECTION",
    value: (r) => (r.connection.direction === "inbound" ? "Inbound" : "Outbound"),
  },
  { header: "LOCAL", value: (r) => r.local },
  { header: "REMOTE", value: (r) => r.remote },
  { header: "REMOTE TARGET", value: (r) => r.remoteTarget },
  { header: "PROTOCOL", value: (r) => r.connection.protocol },
  { header: "NODE-OF-ZTUNNEL", wide: true, value: (r) => r.node },
];

/** What `-o json` holds of a row: the pod, its node, and the connection as the ztunnel said it. */
export function connectionItem(row: ConnectionRow): unknown {
  const { direction, src, originalDst, actualDst, protocol } = row.connection;
  return {
    node: row.node,
    workload: { namespace: row.pod.namespace, name: row.pod.name, uid: row.pod.uid },
    direction,
    src,
    originalDst: originalDst === "" ? null : originalDst,
    actualDst,
    protocol,
    names: { local: row.local, remote: row.remote, remoteTarget: row.remoteTarget },
  };
}

/** ip → service host name, or `pod.namespace`. */
function addressNames(dumps: readonly NodeDump[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const { value } of dumps) {
    for (const w of value.workloads)
      for (const ip of w.addresses) names.set(ip, `${w.name}.${w.namespace}`);
    for (const s of value.services) for (const vip of s.vips) names.set(ipOfVip(vip), s.hostname);
  }
  return names;
}

function nameOf(address: string, names: ReadonlyMap<string, string>): string {
  const m = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(address);
  const name = names.get(m?.[1] ?? m?.[2] ?? "");
  return name === undefined ? address : `${name}:${m?.[3] ?? ""}`;
}
