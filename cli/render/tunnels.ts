// `tunnels`: one row per application connection, seen from both ends and shown once.
import type { PeerView, TunnelView } from "#lib/model/tunnel.ts";
import { peerName, splitAddress, targetName } from "./peer.ts";
import type { Column } from "./table.ts";
import { ageSince, formatBytes } from "./units.ts";

/** A connection, with what only the other end knew filled in. */
export type TunnelRow = TunnelView & {
  /** Nodes of the two ends, as far as their ztunnels reported; empty text when unknown. */
  readonly ends: { readonly source: string; readonly destination: string };
};

/**
 * Joins the two reports of each connection between captured pods. The outbound report carries the client's
 * address and the chosen service; the inbound one carries the policy that decided.
 * @param both  keep both reports as rows of their own
 */
export function tunnelRows(tunnels: readonly TunnelView[], both: boolean): TunnelRow[] {
  const inbound = new Map<string, TunnelView[]>();
  for (const t of tunnels) if (t.direction === "inbound") pushTo(inbound, pairKey(t), t);
  const joined = new Set<TunnelView>();
  const rows: TunnelRow[] = [];
  for (const t of tunnels) {
    if (t.direction !== "outbound") continue;
    const other = inbound.get(pairKey(t))?.shift();
    if (other !== undefined) joined.add(other);
    rows.push({
      ...t,
      verdict: other !== undefined && other.verdict === "denied" ? "denied" : t.verdict,
      policy: t.policy ?? other?.policy ?? null,
      source: { ...other?.source, ...t.source },
      destination: { ...other?.destination, ...t.destination },
      ends: { source: t.node, destination: other?.node ?? "" },
    });
  }
  for (const t of tunnels)
    if (t.direction === "inbound" && (both || !joined.has(t)))
      rows.push({ ...t, ends: { source: "", destination: t.node } });
  return rows.sort(byPeers);
}

/** Columns of the table; ages are relative to `now`. */
export function tunnelColumns(now: number): readonly Column<TunnelRow>[] {
  return [
    { header: "SOURCE", value: (r) => peerName(r.source) },
    { header: "DESTINATION", value: (r) => targetName(r.destination) },
    {
      header: "VIA",
      value: (r) => (r.via === null ? "direct" : `${r.via.namespace}/${r.via.name}`),
    },
    { header: "SECURITY", value: (r) => (r.security === "mutual_tls" ? "mTLS" : "PLAIN") },
    { header: "STREAMS", value: (r) => String(r.streams) },
    { header: "RX/s", value: (r) => formatBytes(r.rx.rate) },
    { header: "TX/s", value: (r) => formatBytes(r.tx.rate) },
    { header: "VERDICT", value: verdictText },
    { header: "AGE", value: (r) => ageSince(r.openedAt, now) },
    { header: "SERVICE", wide: true, value: (r) => r.destination.service ?? "-" },
    { header: "RX", wide: true, value: (r) => formatBytes(r.rx.bytes) },
    { header: "TX", wide: true, value: (r) => formatBytes(r.tx.bytes) },
    { header: "SRC-NODE", wide: true, value: (r) => r.ends.source || "-" },
    { header: "DST-NODE", wide: true, value: (r) => r.ends.destination || "-" },
    { header: "SRC-ID", wide: true, value: (r) => r.source.identity ?? "-" },
    { header: "DST-ID", wide: true, value: (r) => r.destination.identity ?? "-" },
    { header: "POLICY", wide: true, value: (r) => policyName(r.policy) },
    { header: "TUNNEL", wide: true, value: (r) => r.tunnel ?? "-" },
  ];
}

export function policyName(policy: TunnelView["policy"]): string {
  return policy === null ? "-" : `${policy.namespace}/${policy.name}`;
}

function verdictText(r: TunnelRow): string {
  return r.verdict === "denied" && r.policy !== null ? `denied ${r.policy.name}` : r.verdict;
}

/** Both ends see the client's IP and the endpoint's address; the client's port is the outer connection's inbound. */
function pairKey(t: TunnelView): string {
  return `${t.protocol} ${splitAddress(t.source.address).ip} ${t.destination.address}`;
}

function byPeers(a: TunnelRow, b: TunnelRow): number {
  return (
    order(a.source, b.source) ||
    order(a.destination, b.destination) ||
    a.openedAt.localeCompare(b.openedAt)
  );
}

function order(a: PeerView, b: PeerView): number {
  return peerName(a).localeCompare(peerName(b)) || a.address.localeCompare(b.address);
}

function pushTo<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
