// `make kube-down`: ends the cluster of `make kube-up`, and removes what killed clusters of anybody left.
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { sweepCgroups } from "./cgroups.ts";
import { endStanding, standingDir } from "./standing-cluster.ts";
import { TempDir } from "./temp-dir.ts";

const SWEEP_MS = 10_000;

const dir = standingDir();
const hadCluster = await endStanding(dir);
rmSync(dir, { recursive: true, force: true, maxRetries: 20 });
TempDir.sweep("ambit-kube");
const deadline = Date.now() + SWEEP_MS;
let left = sweepCgroups();
while (left.length > 0 && Date.now() < deadline) {
  await sleep(50);
  left = sweepCgroups();
}
if (left.length > 0) {
  process.stderr.write(`Processes are left in ${left.join(", ")}\n`);
  process.exitCode = 1;
}
process.stdout.write(hadCluster ? "The cluster is gone.\n" : "There was no cluster.\n");
