// One application connection as the mesh accounts for it: who, to whom, how, and how it ended.
// The byte movers (splice.ts, tcp-splice.ts) own sockets; this owns the telling.
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import type { Service } from "#lib/model/service.ts";
import type { ConnectionView, PeerView, Reason, TunnelView } from "#lib/model/tunnel.ts";
import type { Workload } from "#lib/model/workload.ts";
import { identityOf } from "#lib/model/workload.ts";
import { RateWindow } from "./rate-window.ts";
import type { Series } from "./traffic-labels.ts";

/** What the access log prints in `response_flags`. */
export type ResponseFlag =
  | "-"
  | "DENY"
  | "CONNECT"
  | "NETWORK_POLICY"
  | "TLS_FAILURE"
  | "H2_HANDSHAKE_FAILURE"
  | "IDENTITY_ERROR";

/** Why a connection ended other than by both sides finishing. */
export interface Failure {
  readonly flag: ResponseFlag;
  readonly reason: Reason;
  /** The sentence the access log prints as `error`. */
  readonly detail: string;
  /** `namespace/name` of the policy that denied. */
  readonly policy?: string;
}

/** A client that resets its connection is told of, but it is weather: no error, and no connection has failed. */
export function isFault(failure: Failure | null): failure is Failure {
  return failure !== null && failure.reason !== "client_reset";
}

/** Bytes moved so far, from the view of the local workload. Kept by the mover, read when asked. */
export interface ByteCounts {
  /** Local workload → peer. */
  readonly bytesSent: number;
  /** Peer → local workload. */
  readonly bytesReceived: number;
}

export interface ConnectionInit {
  readonly direction: "inbound" | "outbound";
  readonly protocol: "HBONE" | "TCP";
  readonly source: SocketAddr;
  readonly sourceWorkload: Workload | null;
  /** From mutual TLS. */
  readonly sourceIdentity: string | null;
  /** What is dialled (outbound), this pod's HBONE port (HBONE in), the original destination (plaintext in). */
  readonly destination: SocketAddr;
  /** What the application dialled, or the authority of the CONNECT. */
  readonly original: string;
  readonly destinationWorkload: Workload | null;
  readonly destinationIdentity: string | null;
  readonly service: Service | null;
  readonly via: TunnelView["via"];
}

let lastId = 0;

/** Fields in one order in every instance; strings that are only printed are made when printed. */
export class Connection {
  readonly id: number = ++lastId;
  readonly init: ConnectionInit;
  readonly series: Series;
  readonly openedAtMs: number;
  /** The ALLOW policy that let it in, as `namespace/name`. */
  policy: string | null = null;
  verdict: "allowed" | "denied" | "pending" = "pending";
  #mover: ByteCounts | null = null;
  #finalSent = 0;
  #finalReceived = 0;
  /** Bytes already in the series. */
  countedSent = 0;
  countedReceived = 0;
  #rates: RateWindow | null = null;

  constructor(init: ConnectionInit, series: Series, openedAtMs: number) {
    this.init = init;
    this.series = series;
    this.openedAtMs = openedAtMs;
  }

  /** Who counts the bytes while the connection lives. Borrowed until `settle`. */
  countedBy(mover: ByteCounts): void {
    this.#mover = mover;
  }

  get bytesSent(): number {
    return this.#mover?.bytesSent ?? this.#finalSent;
  }

  get bytesReceived(): number {
    return this.#mover?.bytesReceived ?? this.#finalReceived;
  }

  /** The connection is over: keeps its counts and lets go of the mover, since events outlive it. */
  settle(): void {
    this.count();
    this.#finalSent = this.bytesSent;
    this.#finalReceived = this.bytesReceived;
    this.#mover = null;
  }

  /** Adds what moved since the last time to the series (which counts client → server as received). */
  count(): void {
    const { series } = this;
    const { direction } = this.init;
    const sent = this.bytesSent - this.countedSent;
    const received = this.bytesReceived - this.countedReceived;
    series.received += direction === "outbound" ? sent : received;
    series.sent += direction === "outbound" ? received : sent;
    this.countedSent += sent;
    this.countedReceived += received;
  }

  /** The line of Istio's config dump. */
  view(): ConnectionView {
    const { init } = this;
    return {
      src: formatSocketAddr(init.source),
      originalDst: init.direction === "outbound" ? init.original : null,
      actualDst: formatSocketAddr(init.destination),
      protocol: init.protocol,
    };
  }

  /**
   * The item of `/ambit/tunnels`.
   * @param tunnel  the HBONE connection's id and streams, null for plaintext
   * @param prefix  of its id
   */
  tunnelView(
    node: string,
    nowMs: number,
    tunnel: { id: string; streams: number } | null,
    prefix = node,
  ): TunnelView {
    const { init } = this;
    const sent = this.bytesSent;
    const received = this.bytesReceived;
    this.#rates ??= new RateWindow(this.openedAtMs);
    const rates = this.#rates.look({ atMs: nowMs, sent, received });
    const view: TunnelView = {
      id: `${prefix}-${init.direction === "outbound" ? "o" : "i"}${this.id}`,
      node,
      direction: init.direction,
      protocol: init.protocol,
      via: init.via,
      source: this.sourceView(),
      destination: this.destinationView(),
      security: init.protocol === "HBONE" ? "mutual_tls" : "plaintext",
      tunnel: tunnel?.id ?? null,
      streams: tunnel?.streams ?? 0,
      openedAt: new Date(this.openedAtMs).toISOString(),
      rx: { bytes: received, rate: rates.received },
      tx: { bytes: sent, rate: rates.sent },
      verdict: this.verdict,
      policy: splitPolicy(this.policy),
    };
    return view;
  }

  sourceView(): PeerView {
    const { source, sourceWorkload, sourceIdentity } = this.init;
    return peerView(source, sourceWorkload, sourceIdentity, null);
  }

  destinationView(): PeerView {
    const { init } = this;
    const shown = init.protocol === "HBONE" ? init.original : formatSocketAddr(init.destination);
    return {
      ...peerView(
        init.destination,
        init.destinationWorkload,
        init.destinationIdentity,
        init.service,
      ),
      address: shown,
    };
  }
}

export function splitPolicy(key: string | null): { namespace: string; name: string } | null {
  if (key === null) return null;
  const slash = key.indexOf("/");
  return { namespace: key.slice(0, Math.max(0, slash)), name: key.slice(slash + 1) };
}

/** The identity a record would show; null without a record. */
export function recordIdentity(workload: Workload | null): string | null {
  return workload === null ? null : identityOf(workload);
}

function peerView(
  addr: SocketAddr,
  workload: Workload | null,
  identity: string | null,
  service: Service | null,
): PeerView {
  return {
    address: formatSocketAddr(addr),
    ...(workload === null
      ? {}
      : { namespace: workload.namespace, pod: workload.name, workload: workload.workloadName }),
    ...(service === null ? {} : { service: service.hostname }),
    ...(identity === null ? {} : { identity }),
  };
}
