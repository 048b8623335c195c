// The open connections of a data plane, as an operator sees them.
import type { TunnelView } from "#lib/model/tunnel.ts";
import type { Tunnel } from "#lib/hbone/tunnel.ts";
import type { Connection, Failure } from "./connection.ts";

/** What is kept of each open connection. */
export interface Live {
  readonly connection: Connection | null;
  /** The tunnel that carries it now; null for plaintext. */
  readonly tunnel: Tunnel | null;
  /** Policy has changed: ask again, and end if the answer is no. Inbound only. */
  recheck(): void;
  /** Ends it now, telling why. */
  end(failure: Failure): void;
}

/** Views of one answer; more are there, but no screen shows them. */
const MAX_VIEWS = 20_000;

/** @param prefix  of the ids, unique in the mesh */
export function tunnelViews(
  lives: Iterable<Live>,
  node: string,
  nowMs: number,
  prefix = node,
): TunnelView[] {
  const views: TunnelView[] = [];
  for (const { connection, tunnel } of lives) {
    if (connection === null) continue;
    const carrier =
      tunnel === null ? null : { id: `${prefix}-t${tunnel.id}`, streams: tunnel.streamCount };
    views.push(connection.tunnelView(node, nowMs, carrier, prefix));
    if (views.length === MAX_VIEWS) break;
  }
  return views;
}
