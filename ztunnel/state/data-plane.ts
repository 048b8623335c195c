// All data-plane workers as one: tables and certificates go to every worker, a pod lives in exactly one.
import type { CertificateMaterial } from "#lib/pki/certificate-material.ts";
import type { FromWorker, PodInfo, ToWorker } from "../proxy/messages.ts";
import type { ZtunnelError } from "../errors.ts";
import type { Snapshot, SnapshotKind, WorkerLink, WorkerMessage } from "./worker-link.ts";

export interface DataPlaneEvents {
  /** A connection in `worker` waits for a certificate. */
  onNeedCertificate(identity: string, worker: WorkerLink): void;
  onLog(lines: Uint8Array): void;
  /** A destination is known by host name only; the answer is a `resolved` message. */
  onResolve(request: Extract<FromWorker, { readonly type: "resolve" }>, worker: WorkerLink): void;
  /** The process must end. */
  onFatal(error: ZtunnelError | string): void;
}

export interface Snapshots {
  readonly answers: readonly { readonly worker: number; readonly snapshot: Snapshot }[];
  /** Why workers are missing among the answers. */
  readonly failed: readonly string[];
}

interface Home {
  readonly worker: WorkerLink;
  /** Answers that are due, oldest first; a worker handles the messages of a pod in order. */
  readonly adding: ((error: string | null) => void)[];
  readonly removing: (() => void)[];
}

/** Owns the workers. */
export class DataPlane implements AsyncDisposable {
  readonly #events: DataPlaneEvents;
  readonly #links: WorkerLink[] = [];
  readonly #podCount: number[] = [];
  readonly #homes = new Map<string, Home>();
  #ready = 0;
  #drained = 0;
  #onDrained: (() => void) | null = null;
  readonly #allReady = Promise.withResolvers<void>();

  /** @param start  makes worker `index`, handing it the two callbacks of `WorkerLink` */
  constructor(
    count: number,
    start: (
      index: number,
      onMessage: (message: WorkerMessage, link: WorkerLink) => void,
      onEnd: (error: ZtunnelError, link: WorkerLink) => void,
    ) => WorkerLink,
    events: DataPlaneEvents,
  ) {
    this.#events = events;
    for (let i = 0; i < count; i++) {
      this.#podCount.push(0);
      this.#links.push(
        start(
          i,
          (message, link) => this.#onMessage(message, link),
          (error, link) => this.#onEnd(error, link),
        ),
      );
    }
  }

  get workers(): readonly WorkerLink[] {
    return this.#links;
  }

  /** Resolves when every worker has said so. */
  ready(): Promise<void> {
    return this.#allReady.promise;
  }

  broadcast(message: ToWorker): void {
    for (const link of this.#links) link.send(message);
  }

  /**
   * Opens the pod's listeners in the least loaded worker.
   * @param netnsFd  borrowed until `removePod` has resolved
   * @returns null, or why the pod could not be added; it then still has to be removed
   */
  addPod(pod: PodInfo, netnsFd: number): Promise<string | null> {
    const home = this.#homes.get(pod.uid) ?? this.#newHome(pod.uid);
    return new Promise((resolve) => {
      home.adding.push(resolve);
      home.worker.send({ type: "pod-add", pod, netnsFd });
    });
  }

  /** Closes everything of the pod at once. Resolves when its namespace descriptor is no longer used. */
  removePod(uid: string): Promise<void> {
    const home = this.#homes.get(uid);
    if (home === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      home.removing.push(resolve);
      home.worker.send({ type: "pod-remove", uid });
    });
  }

  /** The answers of all workers; a silent one is left out and named in `failed`. */
  async snapshots(
    of: SnapshotKind,
    sinceSeq: (worker: number) => number | undefined = () => undefined,
  ): Promise<Snapshots> {
    const results = await Promise.allSettled(
      this.#links.map(async (link) => ({
        worker: link.index,
        snapshot: await link.snapshot(of, sinceSeq(link.index)),
      })),
    );
    return {
      answers: results.flatMap((r) => (r.status === "fulfilled" ? [r.value] : [])),
      failed: results.flatMap((r) => (r.status === "rejected" ? [String(r.reason)] : [])),
    };
  }

  setCertificate(material: CertificateMaterial): void {
    this.broadcast({ type: "certificate", material });
  }

  failCertificate(identity: string, reason: string): void {
    this.broadcast({ type: "certificate-failed", identity, reason });
  }

  /** Resolves when every worker has let go of its last connection, at the latest shortly after the deadline. */
  drain(deadlineMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, deadlineMs + 1_000);
      this.#onDrained = () => {
        clearTimeout(timer);
        resolve();
      };
      this.broadcast({ type: "drain", deadlineMs });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#links.map((link) => link[Symbol.asyncDispose]()));
  }

  #newHome(uid: string): Home {
    const least = Math.min(...this.#podCount);
    const at = this.#podCount.indexOf(least);
    const worker = this.#links[at];
    if (worker === undefined) throw new RangeError("A data plane has at least one worker");
    this.#podCount[at] = least + 1;
    const home: Home = { worker, adding: [], removing: [] };
    this.#homes.set(uid, home);
    return home;
  }

  #onMessage(message: WorkerMessage, link: WorkerLink): void {
    switch (message.type) {
      case "ready":
        if (++this.#ready === this.#links.length) this.#allReady.resolve();
        return;
      case "pod-added":
        this.#homes.get(message.uid)?.adding.shift()?.(message.error);
        return;
      case "pod-removed":
        return this.#podRemoved(message.uid);
      case "need-certificate":
        return this.#events.onNeedCertificate(message.identity, link);
      case "resolve":
        return this.#events.onResolve(message, link);
      case "log":
        return this.#events.onLog(message.lines);
      case "drained":
        if (++this.#drained === this.#links.length) this.#onDrained?.();
        return;
      case "fatal":
        return this.#events.onFatal(`Data-plane worker ${link.index}: ${message.error}`);
      default:
        return message satisfies never;
    }
  }

  /** A worker that ended holds nothing any more: whoever waits for it goes on. */
  #onEnd(error: ZtunnelError, link: WorkerLink): void {
    for (const [uid, home] of this.#homes) {
      if (home.worker !== link) continue;
      this.#homes.delete(uid);
      for (const added of home.adding) added(error.message);
      for (const removed of home.removing) removed();
    }
    this.#events.onFatal(error);
  }

  #podRemoved(uid: string): void {
    const home = this.#homes.get(uid);
    home?.removing.shift()?.();
    if (home === undefined || home.adding.length > 0 || home.removing.length > 0) return;
    this.#homes.delete(uid);
    const count = this.#podCount[home.worker.index] ?? 0;
    this.#podCount[home.worker.index] = Math.max(0, count - 1);
  }
}
