// Nothing of a cluster survives: not after an orderly end, and not when its program is killed.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { cgroupName } from "../cgroups.ts";
import { whyNoKubeSandbox } from "../kube-sandbox.ts";

const why = whyNoKubeSandbox();
if (why !== null && process.env["AMBIT_REQUIRE_LAB"] === "1") throw new Error(why);
const needs = why === null ? { timeout: 120_000 } : { skip: why };
const PROGRAM = join(import.meta.dirname, "lifetime-program.ts");

test("a killed cluster leaves no process, cgroup, mount or file", needs, async () => {
  const { child, dir } = await startCluster();
  const cgroup = cgroupName(child.pid);
  assert.ok(cgroups(cgroup).length > 0);
  assert.ok(processesOf(dir).length > 0);
  child.kill("SIGKILL");
  await assertNothingLeft(dir, cgroup);
});

test("a cluster told to end leaves nothing either, and says so by status 0", needs, async () => {
  const { child, dir } = await startCluster();
  const cgroup = cgroupName(child.pid);
  child.kill("SIGTERM");
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 0);
  await assertNothingLeft(dir, cgroup);
});

/** Resolves when a pod runs; `dir` is the sandbox's. */
async function startCluster(): Promise<{ child: ChildProcess; dir: string }> {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(process.execPath, [PROGRAM], { env, stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface(child.stdout))
    if (line.startsWith("up ")) return { child, dir: line.slice(3) };
  throw new Error(`The program ended with ${child.exitCode}`);
}

async function assertNothingLeft(dir: string, cgroup: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++, await sleep(50))
    if (!existsSync(dir) && processesOf(dir).length + cgroups(cgroup).length === 0) break;
  assert.deepEqual(processesOf(dir), []);
  assert.deepEqual(cgroups(cgroup), []);
  assert.ok(!existsSync(dir));
  assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(dir));
}

/** Containers have other command lines, but nothing they do outlives the one that holds their namespaces. */
function processesOf(dir: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const file = (name: string): string => readFileSync(`/proc/${pid}/${name}`, "utf8");
      return file("cmdline").includes(dir) || file("mountinfo").includes(dir);
    } catch {
      return false;
    }
  });
}

function cgroups(name: string): string[] {
  return readdirSync("/sys/fs/cgroup", { recursive: false, encoding: "utf8" })
    .map((hierarchy) => join("/sys/fs/cgroup", hierarchy, name))
    .filter((path) => existsSync(path));
}
