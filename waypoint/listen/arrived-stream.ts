// The seam between "a CONNECT for something bound here has arrived" and "who handles it". Today every stream goes to
// the L4 handler (l4/); HTTP gets its own, chosen by the port's protocol, without a change on either side of this file.
import type { Tunnel } from "#lib/hbone/tunnel.ts";
import type { Arrival } from "#lib/model/waypoint.ts";
import type { Workload } from "#lib/model/workload.ts";
import type { SocketAddr } from "#lib/net/ip.ts";
import type { SpiffeId } from "#lib/net/spiffe.ts";

/** Nobody has answered it yet. Policy has not been asked either: what it is asked about depends on the handler. */
export interface ArrivedStream {
  readonly tunnel: Tunnel;
  readonly streamId: number;
  /** The peer has sent its last byte already. */
  readonly isEnded: boolean;
  /** What is addressed, and bound to this waypoint. */
  readonly arrival: Arrival;
  /** `:authority` as received. */
  readonly authority: string;
  /** The waypoint's own record at this moment. */
  readonly self: Workload;
  /** The client's pod: its tunnel starts there. */
  readonly peer: SocketAddr;
  /** This waypoint's end of the tunnel. */
  readonly local: SocketAddr;
  /** The client by its certificate; null without a SPIFFE name, which no handshake lets through. */
  readonly identity: SpiffeId | null;
  /** W3C trace context of the client's proxy, unread. */
  readonly traceparent: string | null;
}

/**
 * Takes the stream during the call: binds it in its tunnel or refuses it. It owns the connection from there on, asks
 * policy before it forwards anything, and keeps it in the context's `live`.
 */
export type StreamHandler = (arrived: ArrivedStream) => void;
