// `tunnels watch`: one row per event, in columns that are fixed beforehand because rows arrive one by one.
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import { renderYaml, type OutputFormat } from "./output.ts";
import { peerName, targetName } from "./peer.ts";
import { formatRow, oneLine } from "./table.ts";
import { formatBytes, formatClock, formatDuration } from "./units.ts";

const COLUMNS: readonly (readonly [header: string, width: number])[] = [
  ["TIME", 12],
  ["EVENT", 5],
  ["SOURCE", 24],
  ["DESTINATION", 28],
  ["VIA", 8],
  ["VERDICT", 20],
  ["REASON", 22],
  ["BYTES", 13],
  ["DURATION", 8],
];
const WIDTHS = COLUMNS.map(([, width]) => width);
const GAP = 2;

export const EVENT_HEADER = formatRow(
  COLUMNS.map(([header]) => header),
  WIDTHS,
  GAP,
);

export type NodeEvent = TunnelEvent & { readonly node?: string };

/** One event of a stream: a row, a line of JSON, a document of YAML, or a name. */
export async function eventText(event: NodeEvent, format: OutputFormat): Promise<string> {
  switch (format) {
    case "json":
      return `${JSON.stringify(event)}\n`;
    case "yaml":
      return `---\n${await renderYaml(event)}`;
    case "name":
      return `event/${event.node}.${event.seq}\n`;
    case "table":
    case "wide":
      return eventRow(event);
    default:
      return format satisfies never;
  }
}

export function eventRow(e: NodeEvent): string {
  if (e.event === "lost")
    return `${formatClock(e.time)}  lost   ${e.lost ?? "some"} events were dropped before they were read\n`;
  const cells = [
    formatClock(e.time),
    e.event,
    peerName(e.source),
    targetName(e.destination),
    viaText(e),
    verdictText(e),
    e.reason ?? "-",
    e.rxBytes === undefined ? "-" : `${formatBytes(e.rxBytes)}/${formatBytes(e.txBytes ?? 0)}`,
    e.durationMs === undefined ? "-" : formatDuration(e.durationMs),
  ];
  return formatRow(cells.map(oneLine), WIDTHS, GAP);
}

function verdictText(e: NodeEvent): string {
  if (e.event === "error" && e.policy === undefined) return "-";
  if (e.event === "open" || e.event === "close") return "allowed";
  return e.policy === undefined ? "denied" : `denied ${e.policy.name}`;
}

/** Both ends have an identity exactly when mTLS named them. */
function viaText(e: NodeEvent): string {
  return e.source.identity !== undefined && e.destination.identity !== undefined ? "HBONE" : "TCP";
}
