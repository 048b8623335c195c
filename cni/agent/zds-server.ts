// The agent's end of ZDS: keeps every connected ztunnel in the order of arrival. Pods are added to the
// newest only (it is the one that will stay during an upgrade) and deleted from all.
import { systemClock, type Clock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import { listenSeqpacket, type SeqpacketListener } from "#lib/sys/seqpacket.ts";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { explain } from "./errors.ts";
import type { PodNetns } from "./pod-netns.ts";
import {
  ZDS_TIMEOUT_MS,
  ZdsConnection,
  type MeshedPod,
  type SnapshotEntry,
  type ZdsOutcome,
} from "./zds-connection.ts";

/** At most five new connections a second: a ztunnel in a crash loop must not keep the agent busy. */
const ACCEPT_SPACING_MS = 200;

export interface ZdsServerOptions {
  readonly path: string;
  readonly log: Logger;
  /** Pods of the mesh at this moment. */
  readonly snapshot: () => Iterable<SnapshotEntry>;
  /** A ztunnel became ready or left: who serves which pod has changed. */
  readonly onChange: () => void;
  readonly clock?: Clock;
  readonly timeoutMs?: number;
}

/** Owns the socket and its connections. */
export class ZdsServer implements AsyncDisposable {
  readonly #options: ZdsServerOptions;
  readonly #listener: SeqpacketListener;
  /** Oldest first. One counts from the moment it is accepted. */
  readonly #connections: ZdsConnection[] = [];
  readonly #stop = new AbortController();
  readonly #serving = new Set<Promise<void>>();
  #waiting: (() => void)[] = [];
  #serial = 0;

  private constructor(options: ZdsServerOptions, listener: SeqpacketListener) {
    this.#options = options;
    this.#listener = listener;
    this.#own(this.#acceptAll());
  }

  /** Listens; a socket file that is there is replaced. @throws {SysError} */
  static listen(options: ZdsServerOptions): ZdsServer {
    mkdirSync(dirname(options.path), { recursive: true });
    return new ZdsServer(options, listenSeqpacket(options.path));
  }

  get connectedCount(): number {
    return this.#connections.length;
  }

  /** Whether the newest ztunnel serves the pod in this namespace. */
  hasAcked(uid: string, netnsId: string): boolean {
    return this.#connections.at(-1)?.hasAcked(uid, netnsId) ?? false;
  }

  /** Hands the pod to the newest ztunnel; `null` when none is connected. */
  async add(pod: MeshedPod, netns: PodNetns): Promise<ZdsOutcome | null> {
    const newest = this.#connections.at(-1);
    return newest === undefined ? null : newest.add(pod, netns);
  }

  /** Tells every ztunnel. One that cannot be told has lost its connection, and with it the pod at its next snapshot. */
  async del(uid: string): Promise<void> {
    const outcomes = await Promise.all(this.#connections.map((c) => c.del(uid)));
    for (const outcome of outcomes)
      if (outcome.kind === "nack")
        this.#options.log.warn({ pod: uid, error: outcome.error }, "ztunnel refused to drop a pod");
  }

  /** Resolves when a ztunnel is connected, or after `ms`. */
  async untilConnected(ms: number): Promise<void> {
    if (this.#connections.length > 0) return;
    const clock = this.#options.clock ?? systemClock;
    const enough = new AbortController();
    const connected = new Promise<void>((resolve) => this.#waiting.push(resolve));
    await Promise.race([connected, clock.sleep(ms, enough.signal)]);
    enough.abort();
  }

  status(): readonly { readonly id: number; readonly state: string; readonly pods: number }[] {
    return this.#connections.map((c) => ({ id: c.id, state: c.state, pods: c.ackedCount }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#listener.close();
    for (const connection of this.#connections) connection.close("the agent stops");
    await Promise.all(this.#serving);
  }

  async #acceptAll(): Promise<void> {
    const clock = this.#options.clock ?? systemClock;
    while (!this.#stop.signal.aborted) {
      try {
        const socket = await this.#listener.accept();
        if (socket === null) return;
        const connection = new ZdsConnection(
          ++this.#serial,
          socket,
          this.#options.log,
          this.#options.timeoutMs ?? ZDS_TIMEOUT_MS,
        );
        this.#connections.push(connection);
        for (const wake of this.#waiting.splice(0)) wake();
        this.#own(this.#serve(connection));
      } catch (error) {
        this.#options.log.error({ error: explain(error) }, "cannot accept a ztunnel");
      }
      await clock.sleep(ACCEPT_SPACING_MS, this.#stop.signal);
    }
  }

  async #serve(connection: ZdsConnection): Promise<void> {
    await connection.serve(this.#options.snapshot, this.#options.onChange);
    const index = this.#connections.indexOf(connection);
    if (index >= 0) this.#connections.splice(index, 1);
    if (!this.#stop.signal.aborted) this.#options.onChange();
  }

  #own(work: Promise<void>): void {
    this.#serving.add(work);
    void work.finally(() => this.#serving.delete(work));
  }
}
