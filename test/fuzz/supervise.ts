// The main thread's side: starts a worker per target and watches that its run counter moves.
import { Worker } from "node:worker_threads";
import type { FuzzFinding, FuzzLimits, FuzzReport } from "./harness.ts";

/** Shared memory: run counter, length of the current input, then the input itself. */
export const INPUT_OFFSET = 8;

export interface WorkerJob {
  readonly targetPath: string;
  readonly seed: number;
  readonly ms: number;
  readonly limits: FuzzLimits;
  /** A run that takes longer is a hang; loading the target counts as one. */
  readonly hangMs?: number;
  readonly maxHeapMb?: number;
  readonly shared: SharedArrayBuffer;
}

const DEFAULT_HANG_MS = 10_000;
const DEFAULT_HEAP_MB = 512;
const WATCH_EVERY_MS = 250;

/** Fuzzes one target for `ms` in a worker of bounded heap. Resolves with what was found, never rejects for it. */
export async function superviseFuzz(job: Omit<WorkerJob, "shared">): Promise<FuzzReport> {
  const hangMs = job.hangMs ?? DEFAULT_HANG_MS;
  const shared = new SharedArrayBuffer(INPUT_OFFSET + job.limits.maxInputBytes);
  const head = new Int32Array(shared, 0, INPUT_OFFSET / 4);
  const worker = new Worker(new URL("worker.ts", import.meta.url), {
    workerData: { ...job, shared } satisfies WorkerJob,
    resourceLimits: { maxOldGenerationSizeMb: job.maxHeapMb ?? DEFAULT_HEAP_MB },
  });
  const found = (what: FuzzFinding["what"], detail: string): FuzzReport => ({
    runs: Atomics.load(head, 0),
    outcomes: new Map(),
    finding: { what, detail, input: currentInput(shared) },
  });
  const { promise, resolve } = Promise.withResolvers<FuzzReport>();
  let lastRuns = -1;
  let lastMoveMs = performance.now();
  const watch = setInterval(() => {
    const runs = Atomics.load(head, 0);
    if (runs !== lastRuns) {
      lastRuns = runs;
      lastMoveMs = performance.now();
    } else if (performance.now() - lastMoveMs > hangMs)
      resolve(found("hang", `no end after ${hangMs} ms`));
  }, WATCH_EVERY_MS);
  worker.on("message", (report: FuzzReport) => resolve(report));
  worker.on("error", (error) => resolve(found("crash", String(error))));
  worker.on("exit", (code) => resolve(found("crash", `worker ended with ${code}`)));
  try {
    return await promise;
  } finally {
    clearInterval(watch);
    await worker.terminate();
  }
}

function currentInput(shared: SharedArrayBuffer): Uint8Array {
  const length = new Int32Array(shared, 0, INPUT_OFFSET / 4)[1] ?? 0;
  return Uint8Array.from(new Uint8Array(shared, INPUT_OFFSET)).subarray(0, length);
}
