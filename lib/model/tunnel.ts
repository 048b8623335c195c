// What an operator sees of live traffic: the JSON of `/ambit/tunnels`, `/ambit/events` and of
// `connections` in `/config_dump`. A tunnel is one HBONE connection; a stream one CONNECT inside it.

export type Reason =
  | "policy_explicit_deny"
  | "policy_no_allow_match"
  | "policy_changed"
  | "mtls_required"
  | "tls"
  | "identity"
  | "hbone_blocked"
  | "no_healthy_upstream"
  | "unknown_waypoint"
  | "unknown_source"
  | "no_address"
  | "ip_mismatch"
  | "bad_authority"
  | "unknown_hostname"
  /** A waypoint was asked for what is not bound to it. */
  | "not_bound"
  | "no_port"
  | "self_call"
  | "connect_failed"
  | "connect_timeout"
  | "http_status"
  | "h2"
  | "drained"
  | "backend_reset"
  /** The client took its connection back; no fault of the mesh, so the event is a `close`. */
  | "client_reset";

export interface PeerView {
  readonly namespace?: string;
  readonly pod?: string;
  readonly workload?: string;
  readonly service?: string;
  readonly identity?: string;
  /** `ip:port`. */
  readonly address: string;
}

/** One application connection (one stream of a tunnel, or a plaintext connection). */
export interface TunnelView {
  readonly id: string;
  readonly node: string;
  readonly direction: "inbound" | "outbound";
  readonly protocol: "HBONE" | "TCP";
  readonly via: {
    readonly kind: "waypoint";
    readonly namespace: string;
    readonly name: string;
  } | null;
  readonly source: PeerView;
  readonly destination: PeerView;
  readonly security: "mutual_tls" | "plaintext";
  /** The HBONE connection that carries it; null for plaintext. */
  readonly tunnel: string | null;
  /** Live streams in that HBONE connection. */
  readonly streams: number;
  /** RFC 3339. */
  readonly openedAt: string;
  /** Bytes the local workload received and sent, and bytes per second over the last second or more. */
  readonly rx: { readonly bytes: number; readonly rate: number };
  readonly tx: { readonly bytes: number; readonly rate: number };
  readonly verdict: "allowed" | "denied" | "pending";
  readonly policy: { readonly namespace: string; readonly name: string } | null;
}

export interface TunnelEvent {
  /** Rises by one per event of a worker; a gap was lost. */
  readonly seq: number;
  readonly time: string;
  readonly event: "open" | "close" | "deny" | "error" | "lost";
  readonly direction: "inbound" | "outbound";
  readonly source: PeerView;
  readonly destination: PeerView;
  readonly reason?: Reason;
  /** The sentence the access log prints as `error`. */
  readonly detail?: string;
  readonly policy?: { readonly namespace: string; readonly name: string };
  readonly flags?: string;
  readonly durationMs?: number;
  readonly rxBytes?: number;
  readonly txBytes?: number;
  readonly lost?: number;
}

/** One line of `connections` in Istio's config dump. */
export interface ConnectionView {
  readonly src: string;
  readonly originalDst: string | null;
  readonly actualDst: string;
  readonly protocol: "HBONE" | "TCP" | "DOUBLEHBONE";
}
