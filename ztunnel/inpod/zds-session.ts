// The proxy's side of one ZDS connection, without its socket: what each datagram asks for. Source:
// istio/ztunnel src/inpod/protocol.rs and statemanager.rs; one session per connection.
import { WorkloadRequest } from "#lib/wire/gen/zds.gen.ts";
import type { PodInfo } from "../proxy/messages.ts";

/** One received datagram, as lib/sys/seqpacket.ts hands it over. */
export interface ZdsDatagram {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
  readonly truncated: boolean;
}

export type ZdsAction =
  /** Start the pod; `netnsFd` changes hands. */
  | { readonly kind: "add"; readonly pod: PodInfo; readonly netnsFd: number }
  /** Stop the pod now. */
  | { readonly kind: "remove"; readonly uid: string }
  /** Stop every pod that is not in `wanted`; the snapshot is complete. */
  | { readonly kind: "reconcile"; readonly wanted: ReadonlySet<string> }
  /** Nothing to do but acknowledge. */
  | { readonly kind: "noted" }
  /** Refuse, close the connection, connect again. */
  | { readonly kind: "bad-message"; readonly reason: string }
  /** Refuse and end the process: the agent speaks another version. */
  | { readonly kind: "protocol-error"; readonly reason: string };

/** `snapshot` until SnapshotSent, then `live`: the only move there is. */
export class ZdsSession {
  #phase: "snapshot" | "live" = "snapshot";
  readonly #wanted = new Set<string>();

  get isLive(): boolean {
    return this.#phase === "live";
  }

  /** Descriptors of every result but `add` stay the caller's to close. */
  on(datagram: ZdsDatagram): ZdsAction {
    if (datagram.truncated) return bad("Message or descriptors were truncated");
    const payload = decode(datagram.bytes);
    if (payload === "malformed") return bad("Not a WorkloadRequest");
    if (payload === undefined) return bad("WorkloadRequest without a payload");
    if (payload.$case !== "add" && datagram.fds.length > 0)
      return bad(`Descriptor on a ${payload.$case} message`);
    switch (payload.$case) {
      case "add":
        return this.#add(payload.value, datagram.fds);
      case "keep":
        if (this.#phase === "live") return protocolError("Keep after the snapshot");
        if (payload.value.uid === "") return bad("Keep without a uid");
        this.#wanted.add(payload.value.uid);
        return { kind: "noted" };
      case "del":
        // Before the snapshot's end it only stops being wanted; reconciling then drops it.
        if (this.#phase === "snapshot") {
          this.#wanted.delete(payload.value.uid);
          return { kind: "noted" };
        }
        return { kind: "remove", uid: payload.value.uid };
      case "snapshotSent":
        if (this.#phase === "live") return protocolError("Second SnapshotSent");
        this.#phase = "live";
        return { kind: "reconcile", wanted: this.#wanted };
      default:
        return payload satisfies never;
    }
  }

  #add(add: Extract<Payload, { $case: "add" }>["value"], fds: readonly number[]): ZdsAction {
    const [netnsFd, ...surplus] = fds;
    if (netnsFd === undefined || surplus.length > 0)
      return bad(`Add with ${fds.length} descriptors, expected one`);
    if (add.uid === "") return bad("Add without a uid");
    if (add.workloadInfo === undefined) return protocolError("Add without workload info");
    if (this.#phase === "snapshot") this.#wanted.add(add.uid);
    const { name, namespace, serviceAccount } = add.workloadInfo;
    return { kind: "add", pod: { uid: add.uid, name, namespace, serviceAccount }, netnsFd };
  }
}

type Payload = NonNullable<WorkloadRequest["payload"]>;

function decode(bytes: Uint8Array): Payload | undefined | "malformed" {
  try {
    return WorkloadRequest.decode(bytes).payload;
  } catch {
    return "malformed";
  }
}

function bad(reason: string): ZdsAction {
  return { kind: "bad-message", reason };
}

function protocolError(reason: string): ZdsAction {
  return { kind: "protocol-error", reason };
}
