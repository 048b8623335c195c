// A lab in the background, driven from outside, and what is left when it is ended, interrupted or killed.
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { findLab, labDown, labExecArgv, labRequest, labStatus, labUp } from "../../lab/client.ts";
import { sandboxFlags } from "../../lab/sandbox.ts";
import { workload } from "../../lab/workloads.ts";

const why = sandboxFlags();
if (why.kind === "unavailable" && process.env["AMBIT_REQUIRE_LAB"] === "1")
  throw new Error(why.why);
const needsLab = why.kind === "unavailable" ? { skip: why.why } : { timeout: 60_000 };
const MAIN = resolve(import.meta.dirname, "../../lab/main.ts");

function tempDir(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "ambit-test-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Processes of the sandbox whose state directory this is. */
function processesOf(dir: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`AMBIT_SANDBOX_STATE=${dir}\0`);
    } catch {
      return false; // gone, or another user's
    }
  });
}

async function waitUntilGone(dir: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (processesOf(dir).length > 0) {
    assert.ok(Date.now() < deadline, `still there: ${processesOf(dir).join(" ")}`);
    await sleep(20);
  }
}

/** A lab as a child, with a pod whose process would run for ever. */
async function labChild(dir: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, `--dir=${dir}`], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true, // a process group of its own, as a terminal gives to a command
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  while (!/^ready$/m.test(output)) {
    assert.equal(child.exitCode, null, `the lab ended: ${output}`);
    await sleep(20);
  }
  const state = await findLab(dir);
  assert.ok(state !== null);
  await labRequest(state, "POST", "/pods", {
    node: "a",
    name: "server",
    command: workload("echo-server"),
    readyPort: 8080,
  });
  assert.ok(processesOf(dir).length >= 2);
  return child;
}

test("a lab in the background: status, pods, commands inside, down", needsLab, async () => {
  using dir = tempDir();
  const state = await labUp({ dir: dir.path, nodes: ["a", "b"], families: "ipv4", mesh: false });
  try {
    await assert.rejects(
      labUp({ dir: dir.path, nodes: ["a"], families: "ipv4", mesh: false }),
      /already runs/,
    );
    await labRequest(state, "POST", "/pods", {
      node: "b",
      name: "server",
      namespace: "shop",
      command: workload("echo-server"),
      readyPort: 8080,
    });
    const status = await labStatus(state);
    assert.deepEqual(
      status.nodes.map((n) => n.name),
      ["a", "b"],
    );
    assert.deepEqual(
      status.pods.map((p) => `${p.namespace}/${p.name} on ${p.node}`),
      ["shop/server on b"],
    );
    assert.deepEqual(new Set(status.parts.map((p) => p.state)), new Set(["never started"]));
    const ip = status.pods[0]?.ips[0] ?? "";

    const addresses = async (target: string): Promise<string> => {
      const [file = "", ...args] = await labExecArgv(state, target, ["ip", "-o", "address"]);
      const { stdout, stderr, status: code } = spawnSync(file, args, { encoding: "utf8" });
      assert.equal(code, 0, stderr);
      return stdout;
    };
    assert.ok((await addresses("shop/server")).includes(ip));
    assert.ok((await addresses("node/a")).includes("172.30.0.1/"));
    assert.ok((await addresses("istiod")).includes("172.30.0.100/"));
    await assert.rejects(labExecArgv(state, "shop/client", ["true"]), /there are shop\/server/);

    await labRequest(state, "POST", "/link", { port: "a", action: "cut" });
    await assert.rejects(
      labRequest(state, "POST", "/link", { port: "c", action: "cut" }),
      /no port c/,
    );
    await assert.rejects(
      labRequest(state, "POST", "/parts", { part: "envoy", action: "start" }),
      /one of istiod/,
    );
    await labRequest(state, "DELETE", "/pods/shop/server");
    assert.deepEqual((await labStatus(state)).pods, []);
  } finally {
    await labDown(state);
  }
  await waitUntilGone(dir.path);
  assert.equal(await findLab(dir.path), null);
  assert.ok(!existsSync(dir.path));
});

for (const signal of ["SIGTERM", "SIGKILL"] as const)
  test(`nothing is left of a lab that got ${signal}`, needsLab, async () => {
    using dir = tempDir();
    const child = await labChild(dir.path);
    child.kill(signal);
    await once(child, "exit");
    await waitUntilGone(dir.path);
  });

test("nothing is left of a lab that got Ctrl-C", needsLab, async () => {
  using dir = tempDir();
  const child = await labChild(dir.path);
  process.kill(-(child.pid ?? 0), "SIGINT");
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 0, "it ended in order");
  await waitUntilGone(dir.path);
});

test("nothing is left of a lab whose inner process was killed", needsLab, async () => {
  using dir = tempDir();
  const child = await labChild(dir.path);
  for (const pid of processesOf(dir.path))
    if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("main.ts"))
      process.kill(Number(pid), "SIGKILL");
  await once(child, "exit");
  await waitUntilGone(dir.path);
});
