// `/ambit/tunnels` and the lines of `/ambit/events`, read back into the values of lib/model/tunnel.ts.
import type { PeerView, TunnelEvent, TunnelView } from "#lib/model/tunnel.ts";
import { CliError } from "../errors.ts";
import type { Unanswered } from "../render/output.ts";
import { parseJson, type Json } from "./json.ts";

export interface TunnelList {
  readonly tunnels: readonly TunnelView[];
  /** What the ztunnel itself could not ask: a worker that did not answer. */
  readonly partial: readonly Unanswered[];
}

/** @throws {CliError} BAD_INPUT naming the field */
export function parseTunnelList(json: Json): TunnelList {
  const meta = json.at("meta");
  const partial = meta.isAbsent ? [] : meta.at("partial").list();
  return {
    tunnels: json.at("items").list().map(parseTunnel),
    partial: partial.map((p) => ({ node: p.at("node").text(), error: p.at("error").text() })),
  };
}

function parseTunnel(t: Json): TunnelView {
  const via = t.at("via");
  const policy = t.at("policy");
  const tunnel = t.at("tunnel");
  return {
    id: t.at("id").text(),
    node: t.at("node").text(),
    direction: oneOf(t.at("direction"), ["inbound", "outbound"]),
    protocol: oneOf(t.at("protocol"), ["HBONE", "TCP"]),
    via: via.isAbsent
      ? null
      : { kind: "waypoint", namespace: via.at("namespace").text(), name: via.at("name").text() },
    source: parsePeer(t.at("source")),
    destination: parsePeer(t.at("destination")),
    security: oneOf(t.at("security"), ["mutual_tls", "plaintext"]),
    tunnel: tunnel.isAbsent ? null : tunnel.text(),
    streams: t.at("streams").number(),
    openedAt: t.at("openedAt").text(),
    rx: parseTraffic(t.at("rx")),
    tx: parseTraffic(t.at("tx")),
    verdict: oneOf(t.at("verdict"), ["allowed", "denied", "pending"]),
    policy: policy.isAbsent
      ? null
      : { namespace: policy.at("namespace").text(), name: policy.at("name").text() },
  };
}

function parsePeer(p: Json): PeerView {
  const fields = ["namespace", "pod", "workload", "service", "identity"] as const;
  const known = fields.map((f) => [f, p.at(f).text()] as const).filter(([, v]) => v !== "");
  return { ...Object.fromEntries(known), address: p.at("address").text() };
}

function parseTraffic(t: Json): { bytes: number; rate: number } {
  return t.isAbsent
    ? { bytes: 0, rate: 0 }
    : { bytes: t.at("bytes").number(), rate: t.at("rate").number() };
}

const EVENTS = ["open", "close", "deny", "error", "lost"] as const;

/** One line of the event stream. @throws {CliError} BAD_INPUT */
export function parseTunnelEvent(line: string, where: string): TunnelEvent {
  const e = parseJson(line, where);
  const event = oneOf(e.at("event"), EVENTS);
  // A `lost` record has no peers: it says how many events the ring dropped.
  const peer = (at: Json): PeerView => (at.isAbsent ? { address: "" } : parsePeer(at));
  const direction = e.at("direction");
  const raw = e.object() as Readonly<Record<string, unknown>>;
  return {
    ...raw,
    seq: e.at("seq").number(),
    time: e.at("time").text(),
    event,
    direction: direction.isAbsent ? "outbound" : oneOf(direction, ["inbound", "outbound"]),
    source: peer(e.at("source")),
    destination: peer(e.at("destination")),
  };
}

function oneOf<T extends string>(json: Json, allowed: readonly T[]): T {
  const value = json.text();
  const found = allowed.find((a) => a === value);
  if (found !== undefined) return found;
  throw new CliError(
    "BAD_INPUT",
    `${json.path}: expected one of ${allowed.join(", ")}, got ${JSON.stringify(value)}`,
  );
}
