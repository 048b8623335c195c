// The main thread's end of one data-plane worker: messages with a wake-up (the worker sleeps in
// epoll_wait, not in its event loop), and questions that are answered by number.
import type { FromWorker, ToWorker } from "../proxy/messages.ts";
import { ZtunnelError } from "../errors.ts";

/** What a `Worker` of node:worker_threads offers and tests imitate. */
export interface WorkerPort {
  postMessage(message: ToWorker): void;
  on(event: "message", listener: (message: FromWorker) => void): unknown;
  on(event: "error", listener: (error: unknown) => void): unknown;
  on(event: "exit", listener: (code: number) => void): unknown;
  terminate(): Promise<unknown>;
}

export type Snapshot = Extract<FromWorker, { readonly type: "snapshot" }>;
type SnapshotRequest = Extract<ToWorker, { readonly type: "snapshot" }>;
export type SnapshotKind = SnapshotRequest["of"];
/** Everything but the answers, which `snapshot` returns. */
export type WorkerMessage = Exclude<FromWorker, Snapshot>;

/** A worker that has not answered by then is busy with a push or broken; whoever asked goes on without it. */
const ANSWER_TIMEOUT_MS = 5_000;

interface Pending {
  readonly resolve: (answer: Snapshot) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** Owns the worker. */
export class WorkerLink implements AsyncDisposable {
  readonly index: number;
  readonly #port: WorkerPort;
  readonly #wake: () => void;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #isClosed = false;

  /**
   * @param wake       makes the worker look at its messages; called after each one
   * @param onMessage  called for everything the worker says by itself
   * @param onEnd      called once if the worker fails or ends before `dispose`
   */
  constructor(
    index: number,
    port: WorkerPort,
    wake: () => void,
    onMessage: (message: WorkerMessage, link: WorkerLink) => void,
    onEnd: (error: ZtunnelError, link: WorkerLink) => void,
  ) {
    this.index = index;
    this.#port = port;
    this.#wake = wake;
    port.on("message", (message) => {
      if (message.type === "snapshot") this.#answer(message);
      else onMessage(message, this);
    });
    port.on("error", (cause) => {
      this.#end(new ZtunnelError("WORKER", `Data-plane worker ${index} failed`, { cause }), onEnd);
    });
    port.on("exit", (code) => {
      this.#end(new ZtunnelError("WORKER", `Data-plane worker ${index} exited: ${code}`), onEnd);
    });
  }

  send(message: ToWorker): void {
    if (this.#isClosed) return;
    this.#port.postMessage(message);
    this.#wake();
  }

  /** @throws {ZtunnelError} WORKER when the worker ends or does not answer in time */
  snapshot(of: SnapshotKind, sinceSeq?: number): Promise<Snapshot> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(this.#silent(of));
      }, ANSWER_TIMEOUT_MS);
      this.#pending.set(id, { resolve, reject, timer });
      this.send({ type: "snapshot", id, of, ...(sinceSeq === undefined ? {} : { sinceSeq }) });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#rejectAll(new ZtunnelError("WORKER", `Data-plane worker ${this.index} is closed`));
    const ended = this.#port.terminate();
    this.#wake(); // a thread that sleeps in epoll_wait ends only once it returns to JavaScript
    await ended;
  }

  #answer(answer: Snapshot): void {
    const pending = this.#pending.get(answer.id);
    if (pending === undefined) return; // came after its deadline
    this.#pending.delete(answer.id);
    clearTimeout(pending.timer);
    pending.resolve(answer);
  }

  #silent(of: SnapshotKind): ZtunnelError {
    return new ZtunnelError(
      "WORKER",
      `Data-plane worker ${this.index} gave no ${of} within ${ANSWER_TIMEOUT_MS} ms`,
    );
  }

  #end(error: ZtunnelError, onEnd: (error: ZtunnelError, link: WorkerLink) => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#rejectAll(error);
    onEnd(error, this);
  }

  #rejectAll(error: Error): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }
}
