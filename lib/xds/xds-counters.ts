// What an xDS client has received, under the names that Istio's ztunnel has for it.
import type { Family } from "../obs/metric-family.ts";

/** Counted as it happens by the xDS client. */
export class XdsCounters {
  readonly terminations = new Map<string, number>();
  readonly messages = new Map<string, number>();
  readonly bytes = new Map<string, number>();

  terminated(reason: string): void {
    add(this.terminations, reason, 1);
  }

  received(typeUrl: string, bytes: number): void {
    add(this.messages, typeUrl, 1);
    add(this.bytes, typeUrl, bytes);
  }
}

export function xdsFamilies(counters: XdsCounters): Family[] {
  const counter = (
    name: string,
    help: string,
    label: string,
    values: ReadonlyMap<string, number>,
  ): Family => ({
    name,
    help,
    type: "counter",
    samples: [...values].map(([key, value]) => ({ labels: { [label]: key }, value })),
  });
  return [
    counter(
      "istio_xds_connection_terminations_total",
      "The total number of completed connections to xds server",
      "reason",
      counters.terminations,
    ),
    counter(
      "istio_xds_message_total",
      "Total number of messages received",
      "url",
      counters.messages,
    ),
    counter(
      "istio_xds_message_bytes_total",
      "Total number of bytes received",
      "url",
      counters.bytes,
    ),
  ];
}

function add(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
