// `ambit demo` and `ambit lab exec` as processes: what an interrupted or killed demo leaves, and where a command runs.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { labDown, labUp } from "../../lab/client.ts";
import { run } from "../../lab/process.ts";
import { sandboxFlags } from "../../lab/sandbox.ts";

const why = sandboxFlags();
if (why.kind === "unavailable" && process.env["AMBIT_REQUIRE_LAB"] === "1")
  throw new Error(why.why);
const needsLab = why.kind === "unavailable" ? { skip: why.why } : { timeout: 60_000 };
const AMBIT = resolve(import.meta.dirname, "../../cli/bin/ambit");

/** Processes whose temporary directory is `dir`: the demo and everything it started. */
function processesOf(dir: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`TMPDIR=${dir}\0`);
    } catch {
      return false; // no process, gone, or another user's
    }
  });
}

for (const [signal, step] of [
  ["SIGINT", /✔ {2}2\/11/],
  ["SIGTERM", /✔ {2}1\/11/],
  ["SIGKILL", /✔ {2}2\/11/],
] as const)
  test(`nothing is left of a demo that got ${signal}`, needsLab, async () => {
    const dir = mkdtempSync(join(tmpdir(), "ambit-demo-"));
    const child = spawn(AMBIT, ["demo"], {
      stdio: ["ignore", "pipe", "inherit"],
      detached: true, // a process group of its own, as a terminal gives to a command
      env: { ...process.env, TMPDIR: dir },
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    while (!step.test(output)) {
      assert.equal(child.exitCode, null, output);
      await sleep(20);
    }
    assert.ok(processesOf(dir).length >= 2);
    if (signal === "SIGINT") process.kill(-(child.pid ?? 0), signal);
    else child.kill(signal);
    const [code] = (await once(child, "exit")) as [number | null];
    assert.equal(code, signal === "SIGKILL" ? null : 130);
    const deadline = Date.now() + 20_000;
    while (processesOf(dir).length > 0) {
      assert.ok(Date.now() < deadline, `still there: ${processesOf(dir).join(" ")}`);
      await sleep(20);
    }
    assert.deepEqual(readdirSync(dir), [], "the demo's files");
    rmSync(dir, { recursive: true });
  });

test("lab exec runs where the user is, and ends as the command ends", needsLab, async () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-exec-"));
  const state = await labUp({ dir, nodes: ["a"], families: "ipv4", mesh: false });
  try {
    for (const target of ["node/a", "istiod"]) {
      const exec = ["lab", "exec", "--lab", dir, target, "--"];
      const ran = await run([AMBIT, ...exec, "sh", "-c", "pwd; exit 7"], { allowFailure: true });
      assert.deepEqual([ran.stdout, ran.code], [`${process.cwd()}\n`, 7], ran.stderr);
    }
  } finally {
    await labDown(state);
  }
  assert.ok(!existsSync(dir));
});
