// The worker's side: loads one target and fuzzes it, with the current input always in shared memory.
import { parentPort, workerData } from "node:worker_threads";
import { fuzz } from "./harness.ts";
import type { WorkerJob } from "./supervise.ts";
import { INPUT_OFFSET } from "./supervise.ts";
import { loadTarget } from "./targets.ts";

const job = workerData as WorkerJob;
const head = new Int32Array(job.shared, 0, INPUT_OFFSET / 4);
const room = new Uint8Array(job.shared, INPUT_OFFSET);
const target = await loadTarget(job.targetPath);
const report = fuzz(target, job.seed, performance.now() + job.ms, job.limits, (input) => {
  Atomics.store(head, 1, input.length);
  room.set(input.length <= room.length ? input : input.subarray(0, room.length));
  Atomics.add(head, 0, 1);
});
parentPort?.postMessage(report);
