// Waits for the end of a test cluster's owner (its input ends), then removes the cluster's cgroups and
// directory. Run: node kube-sweep-main.ts CGROUP DIRECTORY
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { sweepCgroups } from "./cgroups.ts";

/** The kernel ends the sandbox's processes at the same moment; that takes it a while. */
const GIVE_UP_MS = 30_000;

const [cgroup = "", dir = ""] = process.argv.slice(2);
process.stdin.on("error", () => {});
for await (const _ of process.stdin);
const deadline = Date.now() + GIVE_UP_MS;
let left = sweepCgroups(cgroup);
while (left.length > 0 && Date.now() < deadline) {
  await sleep(50);
  left = sweepCgroups(cgroup);
}
if (left.length > 0) process.stderr.write(`Processes are left in ${left.join(", ")}\n`);
if (process.env["AMBIT_LAB_KEEP"] !== "1")
  rmSync(dir, { recursive: true, force: true, maxRetries: 20 });
