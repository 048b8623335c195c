// A thread of simulated node proxies (xds-streams.ts), and what it says.
import { Worker } from "node:worker_threads";
import type { StreamsData, StreamsSaid } from "../xds-streams.ts";

/** A hundred thousand pods to a hundred streams are 4 GB. */
const WAIT_MS = 600_000;

/** Owns the thread. */
export class ProxyStreams implements AsyncDisposable {
  /** From the first request until the last stream had everything. */
  readonly completeMs: number;
  readonly #worker: Worker;

  private constructor(worker: Worker, completeMs: number) {
    this.#worker = worker;
    this.completeMs = completeMs;
  }

  /** Resolves when every stream has everything. */
  static async open(data: StreamsData): Promise<ProxyStreams> {
    const startedMs = performance.timeOrigin + performance.now();
    const worker = new Worker(new URL("../xds-streams.ts", import.meta.url), { workerData: data });
    try {
      const { at } = await said(worker, "complete");
      return new ProxyStreams(worker, at - startedMs);
    } catch (error) {
      await worker.terminate();
      throw error;
    }
  }

  /** Resolves when every stream has heard of one more change. */
  change(): Promise<StreamsSaid> {
    return said(this.#worker, "changed");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

function said(worker: Worker, what: StreamsSaid["what"]): Promise<StreamsSaid> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`istiod: no "${what}" within ${WAIT_MS} ms`)),
      WAIT_MS,
    );
    worker.once("error", reject);
    worker.once("message", (message: StreamsSaid) => {
      clearTimeout(timer);
      worker.off("error", reject);
      if (message.what === what) resolve(message);
      else reject(new Error(`istiod: expected "${what}", got "${message.what}"`));
    });
  });
}
