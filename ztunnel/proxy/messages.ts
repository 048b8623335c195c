// What the main thread and a data-plane worker say to each other. Plain data: everything here
// survives structured clone; resource bytes live in shared memory and are never copied.
import type { MetricsSnapshot } from "#lib/proxy/telemetry/snapshot.ts";
import type { TableOp } from "#lib/model/table-op.ts";
import type { ConnectionView, TunnelEvent, TunnelView } from "#lib/model/tunnel.ts";
import type { CertificateMaterial } from "#lib/pki/certificate-material.ts";

export interface PodInfo {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export type ToWorker =
  | { readonly type: "tables"; readonly ops: readonly TableOp[] }
  /** `netnsFd` is the process's descriptor of the pod's namespace; it stays open until `pod-removed`. */
  | { readonly type: "pod-add"; readonly pod: PodInfo; readonly netnsFd: number }
  | { readonly type: "pod-remove"; readonly uid: string }
  | { readonly type: "certificate"; readonly material: CertificateMaterial }
  /** No certificate for this identity now; `reason` goes to the connections that waited. */
  | { readonly type: "certificate-failed"; readonly identity: string; readonly reason: string }
  | {
      readonly type: "snapshot";
      readonly id: number;
      readonly of: "tunnels" | "connections" | "metrics" | "events";
      readonly sinceSeq?: number;
    }
  /** Answer to `resolve`; null when the name has no address. */
  | { readonly type: "resolved"; readonly id: number; readonly ip: string | null }
  | { readonly type: "log-level"; readonly access: "off" | "info" | "debug" }
  /** Stop accepting, send GOAWAY; connections may go on until `deadlineMs` from now. */
  | { readonly type: "drain"; readonly deadlineMs: number };

export type FromWorker =
  | { readonly type: "ready" }
  | { readonly type: "pod-added"; readonly uid: string; readonly error: string | null }
  /** Everything of the pod is closed in this worker; the namespace descriptor may be closed. */
  | { readonly type: "pod-removed"; readonly uid: string }
  /** A connection needs this identity's certificate now. */
  | { readonly type: "need-certificate"; readonly identity: string }
  | {
      readonly type: "snapshot";
      readonly id: number;
      readonly tunnels?: readonly TunnelView[];
      readonly connections?: readonly PodConnections[];
      readonly metrics?: MetricsSnapshot;
      readonly events?: readonly TunnelEvent[];
    }
  /** A destination that has only a host name: look it up with the proxy's resolver, answer `resolved`. */
  | {
      readonly type: "resolve";
      readonly id: number;
      readonly hostname: string;
      readonly prefer: "ipv4" | "ipv6";
    }
  /** Finished lines, newline included, up to 64 at a time. */
  | { readonly type: "log"; readonly lines: Uint8Array }
  | { readonly type: "drained" }
  /** The worker cannot go on (a bug): the process must end rather than forward half a mesh. */
  | { readonly type: "fatal"; readonly error: string };

export interface PodConnections {
  readonly uid: string;
  readonly inbound: readonly ConnectionView[];
  readonly outbound: readonly ConnectionView[];
}
