// The node proxy as a process, in a network namespace of its own (its ports are fixed). The file runs
// itself again inside one; without the privilege for that the tests are skipped.
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { listenSeqpacket } from "#lib/sys/seqpacket.ts";
import { PORT } from "#lib/net/ports.ts";

const INSIDE = "AMBIT_APP_TEST_INSIDE";
const MAIN = join(import.meta.dirname, "main.ts");

if (process.env[INSIDE] === undefined) {
  const unshare = ["--user", "--map-root-user", "--net"];
  const isAllowed =
    spawnSync("unshare", [...unshare, "ip", "link", "set", "lo", "up"]).status === 0;
  test("the proxy as a process", {
    skip: isAllowed ? false : "cannot make a network namespace",
    timeout: 60_000,
  }, () => {
    const script = 'ip link set lo up && exec "$0" --test "$1"';
    const { NODE_TEST_CONTEXT: _ours, ...env } = process.env;
    const { status, stdout } = spawnSync(
      "unshare",
      [...unshare, "sh", "-c", script, process.execPath, import.meta.filename],
      { env: { ...env, [INSIDE]: "1" } },
    );
    assert.equal(status, 0, stdout.toString());
  });
} else {
  inside();
}

class Proxy implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown[]>;
  readonly dir: string;
  output = "";

  constructor(env: Readonly<Record<string, string>>) {
    this.dir = mkdtempSync(join(tmpdir(), "ztunnel-"));
    this.child = spawn(process.execPath, [MAIN], {
      env: { PATH: process.env["PATH"], INPOD_UDS: join(this.dir, "zds.sock"), ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.child.stdout?.on("data", (chunk) => (this.output += String(chunk)));
    this.exited = once(this.child, "exit");
  }

  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + 15_000;
    while (!(await holds().catch(() => false))) {
      assert.ok(Date.now() < deadline, `not yet: ${what}\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** All ports are open. */
  async started(): Promise<void> {
    await this.until("metrics port", async () => (await get(PORT.ztunnelMetrics, "/metrics")).ok);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null) this.child.kill("SIGKILL");
    await this.exited;
    rmSync(this.dir, { recursive: true });
  }
}

function get(
  port: number,
  path: string,
  host = "127.0.0.1",
  init: RequestInit = {},
): Promise<Response> {
  return fetch(`http://${host}:${port}${path}`, { ...init, headers: { connection: "close" } });
}

function inside(): void {
  test("a wrong environment ends at once and names every mistake", {
    timeout: 20_000,
  }, async () => {
    const mistakes = { SECRET_TTL: "soon", IPV6_ENABLED: "maybe" };
    await using proxy = new Proxy({ ...mistakes, PROXY_CONFIG: "concurrency: 1" });
    assert.deepEqual(await proxy.exited, [1, null]);
    assert.match(proxy.output, /SECRET_TTL.*IPV6_ENABLED|IPV6_ENABLED.*SECRET_TTL/s);
    assert.doesNotMatch(proxy.output, /PROXY_CONFIG/, "YAML is read");
  });

  test("without a control plane: ports open, not ready, agent left alone", {
    timeout: 30_000,
  }, async () => {
    await using proxy = new Proxy({ NODE_NAME: "n1", ISTIO_META_ISTIO_VERSION: "1.32" });
    using agent = listenSeqpacket(join(proxy.dir, "zds.sock"));
    let wasCalled = false;
    const accepting = agent.accept().then((connection) => {
      wasCalled = connection !== null;
      return connection?.close();
    });
    await proxy.started();
    const ready = await get(PORT.ztunnelReadiness, "/healthz/ready", "[::1]");
    assert.equal(ready.status, 500);
    const pending = "not ready, pending: dns proxy, state manager, workload proxy manager\n";
    await proxy.until("workers ready", async () => {
      const answer = await get(PORT.ztunnelReadiness, "/healthz/ready");
      return (await answer.text()) === pending;
    });
    for (const host of ["127.0.0.1", "[::1]"])
      assert.equal((await get(PORT.ztunnelAdmin, "/config_dump", host)).status, 200);
    const metrics = await (await get(PORT.ztunnelMetrics, "/stats/prometheus")).text();
    assert.match(metrics, /istio_build\{component="ztunnel",tag="1.32"\} 1/);
    assert.match(metrics, /istio_xds_connection_terminations_total\{reason="\w+"\} [1-9]/);
    assert.ok(!wasCalled, "the agent is only called once the mesh is known");
    proxy.child.kill("SIGTERM");
    assert.deepEqual(await proxy.exited, [0, null]);
    assert.match(proxy.output, /draining.*drained/s);
    agent.close();
    await accepting;
  });

  for (const [what, code] of [
    ["an exception", "throw new Error('a bug')"],
    ["a promise nobody waits for", "Promise.reject(new Error('a bug'))"],
  ] as const)
    test(`${what} on the main thread ends the process, sleeping workers and all`, {
      timeout: 20_000,
    }, async () => {
      const bug = `import { isMainThread } from "node:worker_threads";
        if (isMainThread) process.on("SIGUSR2", () => { ${code} });`;
      const url = `data:text/javascript,${encodeURIComponent(bug)}`;
      await using proxy = new Proxy({ NODE_OPTIONS: `--import=${url}`, RUST_LOG: "info,xds=off" });
      await proxy.started();
      const began = performance.now();
      proxy.child.kill("SIGUSR2");
      assert.deepEqual(await proxy.exited, [1, null]);
      assert.ok(performance.now() - began < 1_500, "it does not wait for a worker to wake up");
      assert.match(proxy.output, /\terror\tapp\tztunnel crashed\t.*a bug/);
    });

  for (const how of ["SIGINT", "quitquitquit"] as const)
    test(`${how} ends it in order`, { timeout: 20_000 }, async () => {
      await using proxy = new Proxy({ RUST_LOG: "info,xds=off", LOG_FORMAT: "json" });
      await proxy.started();
      if (how === "SIGINT") proxy.child.kill("SIGINT");
      else await get(PORT.ztunnelAdmin, "/quitquitquit", "127.0.0.1", { method: "POST" });
      assert.deepEqual(await proxy.exited, [0, null]);
      const messages = proxy.output
        .trim()
        .split("\n")
        .map((l) => (JSON.parse(l) as { message: string }).message);
      assert.deepEqual(messages.slice(-2), ["draining", "drained"]);
    });

  test("a port that is taken is a start that fails", { timeout: 20_000 }, async () => {
    await using first = new Proxy({});
    await first.started();
    await using second = new Proxy({});
    assert.deepEqual(await second.exited, [1, null]);
    assert.match(second.output, /EADDRINUSE/);
  });
}
