// One ztunnel on the ZDS socket: hello, snapshot, then one request at a time, each answered before
// the next. Whatever breaks the order ends the connection; the ztunnel connects again and gets a
// fresh snapshot, so that no late answer is ever taken for another's.
import type { Logger } from "#lib/obs/log.ts";
import { closeFd } from "#lib/sys/netns.ts";
import type { SeqpacketConnection } from "#lib/sys/seqpacket.ts";
import { WorkloadRequest, WorkloadResponse, ZdsHello } from "#lib/wire/gen/zds.gen.ts";
import { explain } from "./errors.ts";
import type { PodNetns } from "./pod-netns.ts";

/** Both sides wait this long for the other's next message. */
export const ZDS_TIMEOUT_MS = 5_000;
/** Requests that may wait for their turn; more means the ztunnel does not keep up. */
const MAX_QUEUE = 100;

export interface MeshedPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** What is sent first: pods with their namespace, or without when it is not found (yet). */
export interface SnapshotEntry {
  readonly pod: MeshedPod;
  readonly netns: PodNetns | null;
}

export type ZdsOutcome =
  | { readonly kind: "ack" }
  | { readonly kind: "nack"; readonly error: string }
  /** The connection has ended, is full or did not answer. */
  | { readonly kind: "lost"; readonly why: string };

export type ConnectionState = "greeting" | "snapshot" | "live" | "closed";

export class ZdsConnection {
  readonly id: number;
  readonly #socket: SeqpacketConnection;
  readonly #log: Logger;
  readonly #timeoutMs: number;
  /** Pods this ztunnel has acknowledged, with the namespace it got. */
  readonly #acked = new Map<string, string>();
  #state: ConnectionState = "greeting";
  #tail: Promise<unknown> = Promise.resolve();
  #queued = 0;
  #answer: ((bytes: Uint8Array | null) => void) | null = null;
  #closedWhy = "";

  constructor(id: number, socket: SeqpacketConnection, log: Logger, timeoutMs = ZDS_TIMEOUT_MS) {
    this.id = id;
    this.#socket = socket;
    this.#log = log;
    this.#timeoutMs = timeoutMs;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Whether this ztunnel serves the pod in exactly this namespace. */
  hasAcked(uid: string, netnsId: string): boolean {
    return this.#acked.get(uid) === netnsId;
  }

  get ackedCount(): number {
    return this.#acked.size;
  }

  /** Resolves when the connection has ended. @param snapshot  the pods of that moment; looked at again before each is sent */
  async serve(snapshot: () => Iterable<SnapshotEntry>, onLive: () => void): Promise<void> {
    const greeting = this.#receive(); // before reading starts
    this.#tail = this.#greet(greeting, snapshot, onLive);
    try {
      for (;;) {
        const datagram = await this.#socket.receive();
        if (datagram === null) return this.close("the ztunnel has left");
        for (const fd of datagram.fds) closeFd(fd);
        const answer = this.#answer;
        this.#answer = null;
        if (answer === null) return this.close("it spoke without being asked");
        if (datagram.truncated || datagram.fds.length > 0)
          return this.close("its message is too long or carries descriptors");
        answer(datagram.bytes);
      }
    } catch (error) {
      this.close(explain(error));
    }
  }

  add(pod: MeshedPod, netns: PodNetns): Promise<ZdsOutcome> {
    return this.#inTurn(async () =>
      // the snapshot may have brought the pod while this waited
      this.hasAcked(pod.uid, netns.id) ? { kind: "ack" } : this.#sendAdd(pod, netns),
    );
  }

  del(uid: string): Promise<ZdsOutcome> {
    this.#acked.delete(uid);
    return this.#inTurn(() => {
      this.#acked.delete(uid); // an Add may have been waiting before this
      return this.#exchange({ $case: "del", value: { uid } });
    });
  }

  close(why: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#closedWhy = why;
    this.#acked.clear();
    this.#socket.close();
    this.#answer?.(null);
    this.#answer = null;
    this.#log.info({ connection: this.id, why }, "ztunnel disconnected");
  }

  async #greet(
    greeting: Promise<Uint8Array | null>,
    snapshot: () => Iterable<SnapshotEntry>,
    onLive: () => void,
  ): Promise<void> {
    const hello = await greeting;
    if (hello === null) return;
    try {
      ZdsHello.decode(hello);
    } catch {
      return this.close("its hello cannot be read");
    }
    if (this.#isClosed) return;
    this.#state = "snapshot";
    for (const { pod, netns } of snapshot()) {
      const outcome =
        netns === null
          ? await this.#exchange({ $case: "keep", value: { uid: pod.uid } })
          : await this.#sendAdd(pod, netns);
      if (outcome.kind === "lost") return;
      if (outcome.kind === "nack")
        this.#log.warn({ pod: pod.uid, error: outcome.error }, "ztunnel refused a pod at start");
    }
    const sent = await this.#exchange({ $case: "snapshotSent", value: {} });
    if (sent.kind === "lost" || this.#isClosed) return;
    this.#state = "live";
    this.#log.info({ connection: this.id, pods: this.#acked.size }, "ztunnel connected");
    onLive();
  }

  get #isClosed(): boolean {
    return this.#state === "closed";
  }

  async #sendAdd(pod: MeshedPod, netns: PodNetns): Promise<ZdsOutcome> {
    let fd: number;
    try {
      // our own copy: the pod may be replaced while this message waits to be sent
      fd = netns.duplicate();
    } catch (error) {
      return { kind: "lost", why: explain(error) };
    }
    try {
      const { uid, name, namespace, serviceAccount } = pod;
      const outcome = await this.#exchange(
        { $case: "add", value: { uid, workloadInfo: { name, namespace, serviceAccount } } },
        fd,
      );
      if (outcome.kind === "ack" && !this.#isClosed) this.#acked.set(uid, netns.id);
      return outcome;
    } finally {
      closeFd(fd);
    }
  }

  #inTurn(send: () => Promise<ZdsOutcome>): Promise<ZdsOutcome> {
    if (this.#isClosed) return Promise.resolve({ kind: "lost", why: this.#closedWhy });
    if (this.#queued >= MAX_QUEUE)
      return Promise.resolve({ kind: "lost", why: `${MAX_QUEUE} requests are waiting already` });
    this.#queued++;
    const turn = this.#tail.then(send).finally(() => this.#queued--);
    this.#tail = turn;
    return turn;
  }

  async #exchange(
    payload: NonNullable<WorkloadRequest["payload"]>,
    fd?: number,
  ): Promise<ZdsOutcome> {
    if (this.#isClosed) return { kind: "lost", why: this.#closedWhy };
    const answer = this.#receive();
    try {
      await this.#socket.send(WorkloadRequest.encode({ payload }).finish(), fd);
    } catch (error) {
      this.close(explain(error));
    }
    const bytes = await answer;
    if (bytes === null) return { kind: "lost", why: this.#closedWhy };
    try {
      const response = WorkloadResponse.decode(bytes);
      if (response.payload === undefined) throw new Error("no payload");
      const { error } = response.payload.value;
      return error === "" ? { kind: "ack" } : { kind: "nack", error };
    } catch {
      this.close("its answer cannot be read");
      return { kind: "lost", why: this.#closedWhy };
    }
  }

  /** The next message, `null` when the connection ends first; too late ends it. */
  #receive(): Promise<Uint8Array | null> {
    return new Promise((resolve) => {
      if (this.#isClosed) return resolve(null);
      const timer = setTimeout(
        () => this.close(`it did not answer within ${this.#timeoutMs} ms`),
        this.#timeoutMs,
      );
      this.#answer = (bytes) => {
        clearTimeout(timer);
        resolve(bytes);
      };
    });
  }
}
