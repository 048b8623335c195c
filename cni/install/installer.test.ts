// The installer on real directories: what it writes, what it leaves alone, and how it answers to others
// who write there too.
import assert from "node:assert/strict";
import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { pino } from "pino";
import { systemClock } from "#lib/base/clock.ts";
import { Installer } from "./installer.ts";
import { PluginToken } from "./plugin-token.ts";
import { TestNodeDirs } from "./test-node.ts";
import { uninstall } from "./uninstall.ts";

const LIST = {
  cniVersion: "1.0.0",
  name: "kindnet",
  plugins: [{ type: "ptp" }, { type: "portmap" }],
};

class Run implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  readonly installer: Installer;
  readonly results: string[] = [];
  readonly lines: { readonly msg: string; readonly hint?: string; readonly who?: string }[] = [];
  isReady = false;

  constructor(dirs: TestNodeDirs, env: Readonly<Record<string, string>> = {}) {
    this.installer = new Installer({
      config: dirs.config(env),
      log: pino({ level: "info" }, { write: (line) => void this.lines.push(JSON.parse(line)) }),
      clock: systemClock,
      token: new PluginToken({
        serviceAccountDir: dirs.path("sa"),
        mint: null,
        clock: systemClock,
        log: pino({ level: "silent" }),
      }),
      onReady: (isReady) => (this.isReady = isReady),
      onPass: (result) => this.results.push(result),
    });
    this.#done = this.installer.run(this.#stop.signal);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    for (const deadline = Date.now() + 5_000; !condition(); )
      if (Date.now() > deadline) assert.fail(`${what} does not happen`);
      else await new Promise((r) => setTimeout(r, 5));
  }

  ready(): Promise<void> {
    return this.until("ready", () => this.isReady);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }
}

test("executable, kubeconfig, entry: each with its mode, nothing left behind", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-kindnet.conflist", LIST, 0o640);
  dirs.write("bin/istio-cni.tmp.0badcafe", "half a copy");
  await using run = new Run(dirs);
  await run.ready();
  assert.deepEqual(dirs.chain("10-kindnet.conflist"), ["ptp", "portmap", "istio-cni"]);
  assert.equal(dirs.mode("net.d/10-kindnet.conflist"), 0o640, "the file's own mode stays");
  assert.equal(dirs.mode("bin/istio-cni"), 0o755);
  assert.deepEqual(readdirSync(dirs.path("bin")), ["istio-cni"]);
  assert.equal(dirs.mode("run/istio-cni-kubeconfig"), 0o600);
  const kubeconfig = dirs.read("run/istio-cni-kubeconfig") ?? "";
  assert.match(kubeconfig, /server: "https:\/\/\[fd00:96::1\]:6443"/);
  assert.match(kubeconfig, /token: "token-1"/);
  assert.match(kubeconfig, /certificate-authority-data: UEVN/);
  assert.deepEqual(await run.installer.faults(), []);
  assert.equal(run.installer.installedIn, "10-kindnet.conflist");
  assert.deepEqual([...new Set(run.results)], ["SUCCESS"]);
});

test("without a network plugin it waits, and is not ready", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-half.conflist", '{"name":"n","plugins":[');
  await using run = new Run(dirs);
  await run.until("the executable", () => dirs.read("bin/istio-cni") !== null);
  assert.equal(run.isReady, false);
  assert.match((await run.installer.faults()).join(), /waiting for a network configuration/);
  dirs.write("net.d/.10-x.tmp", LIST);
  renameSync(dirs.path("net.d/.10-x.tmp"), dirs.path("net.d/10-half.conflist"));
  await run.ready();
  assert.deepEqual(dirs.chain("10-half.conflist"), ["ptp", "portmap", "istio-cni"]);
});

test("a single plugin's file becomes a list in its place", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-bridge.conf", { cniVersion: "0.4.0", name: "n", type: "bridge" }, 0o600);
  await using run = new Run(dirs);
  await run.ready();
  assert.deepEqual(readdirSync(dirs.path("net.d")), ["10-bridge.conflist"]);
  assert.deepEqual(dirs.chain("10-bridge.conflist"), ["bridge", "istio-cni"]);
});

test("what others take away comes back: entry, executable, kubeconfig", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-kindnet.conflist", LIST);
  await using run = new Run(dirs);
  await run.ready();
  dirs.write("net.d/10-kindnet.conflist", LIST);
  await run.until("the entry", () => dirs.chain("10-kindnet.conflist")?.length === 3);
  rmSync(dirs.path("bin/istio-cni"));
  await run.until("the executable", () => dirs.read("bin/istio-cni") !== null);
  dirs.write("bin/istio-cni", "#!/bin/sh\nexit 1\n", 0o755);
  await run.until("its content", () => dirs.read("bin/istio-cni")?.includes("one") === true);
  dirs.token("token-2");
  await run.until(
    "the new token",
    () => dirs.read("run/istio-cni-kubeconfig")?.includes("token-2") === true,
  );
  await run.ready();
  assert.ok(run.lines.some((line) => line.msg === "the plugin was taken out of its file"));
});

test("a file that sorts before is chosen; the old one keeps working", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-kindnet.conflist", LIST);
  await using run = new Run(dirs);
  await run.ready();
  dirs.write("net.d/05-cilium.conflist", { name: "cilium", plugins: [{ type: "cilium-cni" }] });
  await run.until("the new file", () => dirs.chain("05-cilium.conflist")?.length === 2);
  await run.until("readiness", () => run.installer.installedIn === "05-cilium.conflist");
  const line = run.lines.find((l) => l.msg === "another file is the network configuration now");
  assert.equal(line?.who, "cilium (cilium-cni)");
});

test("a primary that is replaced under another name is followed", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-a.conflist", LIST);
  await using run = new Run(dirs);
  await run.ready();
  rmSync(dirs.path("net.d/10-a.conflist"));
  await run.until("not ready", () => !run.isReady);
  dirs.write("net.d/20-b.conflist", LIST);
  await run.until("the other", () => dirs.chain("20-b.conflist")?.length === 3);
});

test("a named file is used, under either ending", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/05-first.conflist", LIST);
  dirs.write("net.d/10-mine.conflist", LIST);
  await using run = new Run(dirs, { CNI_CONF_NAME: "10-mine.conf" });
  await run.ready();
  assert.equal(dirs.chain("05-first.conflist")?.length, 2);
  assert.equal(dirs.chain("10-mine.conflist")?.length, 3);
});

test("a file of its own, for a multiplexer", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/05-multus.conflist", LIST);
  await using run = new Run(dirs, { CHAINED_CNI_PLUGIN: "false", CNI_CONF_GROUP_READ: "true" });
  await run.ready();
  assert.equal(dirs.chain("05-multus.conflist")?.length, 2);
  const own = JSON.parse(dirs.read("net.d/YYY-istio-cni.conf") ?? "") as Record<string, unknown>;
  assert.equal(own["cniVersion"], "0.3.1");
  assert.equal(own["type"], "istio-cni");
  assert.equal(dirs.mode("net.d/YYY-istio-cni.conf"), 0o640);
});

test("an own copy of the chain sorts first, follows the primary and leaves it alone", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-kindnet.conflist", LIST);
  await using run = new Run(dirs, { ISTIO_OWNED_CNI_CONFIG: "true" });
  await run.ready();
  assert.equal(dirs.chain("10-kindnet.conflist")?.length, 2);
  assert.deepEqual(dirs.chain("02-istio-cni.conflist"), ["ptp", "portmap", "istio-cni"]);
  dirs.write("net.d/10-kindnet.conflist", {
    ...LIST,
    plugins: [...LIST.plugins, { type: "bandwidth" }],
  });
  await run.until("the copy", () => dirs.chain("02-istio-cni.conflist")?.length === 4);
  rmSync(dirs.path("net.d/02-istio-cni.conflist"));
  await run.until("the copy again", () => dirs.chain("02-istio-cni.conflist")?.length === 4);
});

test("a contest for the file is spaced, and named with a hint", async () => {
  using dirs = new TestNodeDirs();
  const cilium = { name: "cilium", plugins: [{ type: "cilium-cni" }] };
  dirs.write("net.d/05-cilium.conflist", cilium);
  await using run = new Run(dirs);
  await run.ready();
  const start = Date.now();
  for (let i = 0; i < 7; i++) {
    dirs.write("net.d/05-cilium.conflist", cilium);
    await run.until("the entry", () => dirs.chain("05-cilium.conflist")?.length === 2);
  }
  assert.ok(Date.now() - start > 4_000, "at most one pass a second");
  const warning = run.lines.find((line) => line.hint !== undefined);
  assert.match(warning?.hint ?? "", /cni\.exclusive=false/);
});

test("a failure is counted by its part and tried again", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-kindnet.conflist", LIST);
  rmSync(dirs.path("sa/token"));
  await using run = new Run(dirs);
  await run.until("the failure", () => run.results.includes("CREATE_KUBECONFIG_FAILURE"));
  assert.equal(run.isReady, false);
  assert.equal(dirs.chain("10-kindnet.conflist")?.length, 2, "nothing is chained half-installed");
  dirs.token("late");
  await run.ready();
});

test("an executable that is the same is not copied again", async () => {
  using dirs = new TestNodeDirs();
  dirs.write("net.d/10-kindnet.conflist", LIST);
  {
    await using run = new Run(dirs);
    await run.ready();
  }
  const before = statSync(dirs.path("bin/istio-cni")).ino;
  await using run = new Run(dirs);
  await run.ready();
  assert.equal(statSync(dirs.path("bin/istio-cni")).ino, before);
  writeFileSync(dirs.path("image/istio-cni"), "#!/bin/sh\necho two\n");
  dirs.token("token-3"); // any pass
  await run.until("the new one", () => dirs.read("bin/istio-cni")?.includes("two") === true);
});

for (const [name, env] of [
  ["chained", {}],
  ["own copy", { ISTIO_OWNED_CNI_CONFIG: "true" }],
  ["of its own", { CHAINED_CNI_PLUGIN: "false" }],
] as const)
  test(`uninstalled, ${name}: the directories are as before`, async () => {
    using dirs = new TestNodeDirs();
    dirs.write("net.d/10-kindnet.conflist", `${JSON.stringify(LIST, null, 2)}\n`);
    dirs.write("net.d/20-other.conflist", {
      name: "o",
      plugins: [{ type: "a" }, { type: "istio-cni" }],
    });
    dirs.write("bin/ptp", "x", 0o755);
    dirs.write("image/libx.so.1", "a library");
    {
      await using run = new Run(dirs, env);
      await run.ready();
    }
    assert.equal(dirs.read("bin/libx.so.1"), "a library");
    const log = pino({ level: "silent" });
    assert.deepEqual(await uninstall(dirs.config(env), log), []);
    assert.deepEqual(readdirSync(dirs.path("net.d")).sort(), [
      "10-kindnet.conflist",
      "20-other.conflist",
    ]);
    assert.equal(dirs.read("net.d/10-kindnet.conflist"), `${JSON.stringify(LIST, null, 2)}\n`);
    assert.deepEqual(dirs.chain("20-other.conflist"), ["a"]);
    assert.deepEqual(readdirSync(dirs.path("bin")), ["ptp"]);
    assert.deepEqual(readdirSync(dirs.path("run")), []);
    assert.deepEqual(await uninstall(dirs.config(env), log), [], "again finds nothing to do");
  });
