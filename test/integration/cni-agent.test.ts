// The node agent on real namespaces, with a manifest directory for a cluster and the real plugin.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { startApp, type App } from "../../cni/agent/app.ts";
import { readConfig } from "../../cni/agent/config.ts";
import { hasPodRules } from "../../cni/rules/apply.ts";
import { scriptRunner } from "../../cni/rules/exec.ts";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { parseIp } from "#lib/net/ip.ts";
import { createLogger } from "#lib/obs/log.ts";
import { netnsId } from "#lib/sys/netns.ts";
import { NetnsScanner, scanProcesses } from "../../cni/agent/netns-scan.ts";
import { TestZtunnel } from "../../cni/agent/test-ztunnel.ts";
import { ADDRESS, cannotMakeNamespaces, PodNetwork, until } from "./cni-fixture.ts";

const skip = cannotMakeNamespaces();
const PLUGIN = resolve(import.meta.dirname, "../../cni/plugin/main.ts");
const MODE = "istio.io/dataplane-mode";

/** A node with one pod's namespace and an agent that can be stopped and started. */
class TestNode implements AsyncDisposable {
  readonly net: PodNetwork;
  readonly dir = mkdtempSync(join(tmpdir(), "cni-agent-"));
  readonly cluster = new DirectoryCluster(join(this.dir, "manifests"));
  app: App | null = null;

  constructor(tag: string) {
    this.net = new PodNetwork(tag);
    mkdirSync(this.cluster.dir);
  }

  get zdsPath(): string {
    return join(this.dir, "ztunnel.sock");
  }

  async start(env: Readonly<Record<string, string>> = {}): Promise<App> {
    const config = readConfig({
      NODE_NAME: "a",
      MANIFEST_DIR: this.cluster.dir,
      CNI_AGENT_RUN_DIR: join(this.dir, "run"),
      ZTUNNEL_UDS_ADDRESS: this.zdsPath,
      HOST_PROC: "/proc",
      HOST_NETNS_PREFIX: "",
      HOST_NETNS: this.net.path("node"),
      HEALTH_PORT: "0",
      MONITORING_PORT: "0",
      DEBUG_PORT: "-1",
      KUBELET_UID: "any",
      AUDIT_INTERVAL_SECONDS: "1",
      ...env,
    });
    this.app = await startApp({
      config,
      cluster: this.cluster,
      annotationSubresource: null,
      log: createLogger({
        scope: "cni-agent",
        level: (process.env["LOG_LEVEL"] as "debug" | undefined) ?? "silent",
        format: "plain",
      }),
    });
    return this.app;
  }

  async stop(): Promise<void> {
    await this.app?.[Symbol.asyncDispose]();
    this.app = null;
  }

  async namespace(labels: Readonly<Record<string, string>>): Promise<void> {
    await this.cluster.apply(
      RESOURCES.namespaces,
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels } },
      { fieldManager: "test" },
    );
  }

  async pod(uid: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.cluster.apply(
      RESOURCES.pods,
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "cart", namespace: "shop", uid, labels },
        spec: { nodeName: "a", serviceAccountName: "cart", containers: [] },
      },
      { fieldManager: "test" },
    );
  }

  async setIp(): Promise<void> {
    await this.patch({ status: { phase: "Running", podIP: ADDRESS.ipv4.pod } });
  }

  async patch(patch: unknown): Promise<void> {
    await this.cluster.patch(RESOURCES.pods, "shop", "cart", patch, { fieldManager: "test" });
  }

  /** Waits until the pod's annotation is `value`. */
  async annotated(value: string | undefined): Promise<void> {
    for (const deadline = Date.now() + 10_000; ; ) {
      const pod = await this.cluster.get(RESOURCES.pods, "shop", "cart");
      const now = pod?.metadata.annotations?.["ambient.istio.io/redirection"];
      if (now === value) return;
      if (Date.now() > deadline) assert.fail(`the annotation stays ${now}, wanted ${value}`);
      await new Promise((r) => setTimeout(r, 10));
    }
  }

  hasRules(): Promise<boolean> {
    return hasPodRules(scriptRunner(this.net.pod, 5_000), { kind: "nft" });
  }

  /** Calls the plugin as a runtime does. */
  async plugin(
    command: string,
    config: Readonly<Record<string, unknown>> = {},
  ): Promise<{
    readonly code: number | null;
    readonly stdout: string;
  }> {
    const child = spawn(process.execPath, [PLUGIN], {
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: "c1",
        CNI_NETNS: this.net.path("pod"),
        CNI_IFNAME: "eth0",
        CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAME=cart;K8S_POD_NAMESPACE=shop;K8S_POD_UID=",
      },
      stdio: ["pipe", "pipe", "ignore"],
    });
    child.stdin.end(
      JSON.stringify({
        cniVersion: "1.1.0",
        name: "lab",
        type: "istio-cni",
        cni_agent_run_dir: join(this.dir, "run"),
        prevResult: {
          cniVersion: "1.1.0",
          interfaces: [{ name: "eth0" }],
          ips: [{ address: `${ADDRESS.ipv4.pod}/24`, interface: 0, gateway: "10.99.1.1" }],
        },
        ...config,
      }),
    );
    let stdout = "";
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    return new Promise((done) => child.once("close", (code) => done({ code, stdout })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.net[Symbol.dispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

test("ADD answers once the pod is in the mesh", { skip }, async (t) => {
  await using node = new TestNode("add");
  // rare enough that CHECK sees what was taken out before the audit puts it back
  await node.start({ AUDIT_INTERVAL_SECONDS: "4" });
  using ztunnel = await TestZtunnel.connect(node.zdsPath);
  await ztunnel.has("snapshotSent");
  await node.namespace({ [MODE]: "ambient" });
  await node.pod("uid-1");
  const started = performance.now();
  const done = await node.plugin("ADD");
  t.diagnostic(`ADD took ${(performance.now() - started).toFixed(0)} ms, plugin start included`);
  t.diagnostic(readFileSync(join(node.dir, "run/istio-cni.log"), "utf8").trim());
  assert.equal(done.code, 0, done.stdout);
  const result = JSON.parse(done.stdout) as { cniVersion: string; ips: unknown[] };
  assert.equal(result.cniVersion, "1.1.0");
  assert.equal(result.ips.length, 1);
  assert.equal(await node.hasRules(), true);
  const add = await ztunnel.has("add", "uid-1");
  assert.equal(add.netnsId, netnsId(node.net.pod));
  assert.match(
    node.net.exec("node", "nft list set inet istio-ambient-nat istio-inpod-probes-v4"),
    /10\.99\.1\.2 comment "uid-1"/,
  );
  await node.annotated("enabled");
  assert.equal((await node.plugin("CHECK")).code, 0);
  assert.deepEqual(await node.plugin("STATUS"), { code: 0, stdout: "" });
  node.net.exec("pod", "nft flush ruleset");
  const checked = await node.plugin("CHECK");
  assert.equal(checked.code, 1);
  assert.match(checked.stdout, /is missing/);
  await until("the repair", () => (ruleCount(node) > 0 ? true : null));
  assert.equal((await node.plugin("CHECK")).code, 0);
});

test("ADD fails closed without a ztunnel, and the pod joins when one comes", { skip }, async () => {
  await using node = new TestNode("nop");
  await node.start();
  await node.namespace({ [MODE]: "ambient" });
  await node.pod("uid-1");
  const refused = await node.plugin("ADD");
  assert.equal(refused.code, 1);
  assert.equal((JSON.parse(refused.stdout) as { code: number }).code, 999);
  assert.match(refused.stdout, /no ztunnel connection/);
  await node.annotated("pending");
  using _ztunnel = await TestZtunnel.connect(node.zdsPath);
  await node.annotated("enabled");
});

test("a pod outside the mesh starts untouched, and joins and leaves by its label", {
  skip,
}, async () => {
  await using node = new TestNode("late");
  await node.start();
  using ztunnel = await TestZtunnel.connect(node.zdsPath);
  await node.namespace({});
  await node.pod("uid-1");
  assert.equal((await node.plugin("ADD")).code, 0);
  assert.equal(await node.hasRules(), false);
  await node.setIp();
  await node.patch({ metadata: { labels: { [MODE]: "ambient" } } });
  await node.annotated("enabled");
  assert.equal(await node.hasRules(), true);
  assert.equal((await ztunnel.has("add", "uid-1")).netnsId, netnsId(node.net.pod));
  await node.patch({ metadata: { labels: { [MODE]: "none" } } });
  await node.annotated(undefined);
  await ztunnel.has("del", "uid-1");
  assert.equal(await node.hasRules(), false);
  await node.patch({ metadata: { labels: { [MODE]: null } } });
  await node.namespace({ [MODE]: "ambient" });
  await node.annotated("enabled");
  await node.cluster.delete(RESOURCES.pods, "shop", "cart");
  await until("the second del", () =>
    ztunnel.seen.filter((r) => r.kind === "del").length === 2 ? true : null,
  );
  await until("the sandbox to be forgotten", () =>
    readdirSync(join(node.dir, "run/pods")).length === 0 ? true : null,
  );
});

test("a restarted agent keeps its pods, and a label changed meanwhile counts", {
  skip,
}, async () => {
  await using node = new TestNode("rst");
  await node.start();
  await node.namespace({ [MODE]: "ambient" });
  await node.pod("uid-1");
  {
    using ztunnel = await TestZtunnel.connect(node.zdsPath);
    await ztunnel.has("snapshotSent");
    assert.equal((await node.plugin("ADD")).code, 0);
    await node.setIp();
    await node.stop();
    await ztunnel.gone();
  }
  assert.equal(await node.hasRules(), true, "rules outlive the agent");
  assert.equal((await node.plugin("ADD")).code, 1, "no agent, no pod");
  node.net.exec("pod", "nft flush ruleset"); // as a reboot would
  await node.start();
  assert.equal(await node.hasRules(), true, "repaired before any ztunnel connects");
  {
    using ztunnel = await TestZtunnel.connect(node.zdsPath);
    await ztunnel.has("snapshotSent");
    assert.deepEqual(ztunnel.log, ["add uid-1", "snapshotSent"]);
    await node.annotated("enabled");
  }
  await node.stop();
  await node.namespace({ [MODE]: "none" });
  await node.start();
  await node.annotated(undefined);
  assert.equal(await node.hasRules(), false);
});

test("a ztunnel that refuses leaves the pod pending, and others unharmed", { skip }, async () => {
  await using node = new TestNode("nack");
  await node.start();
  await node.namespace({ [MODE]: "ambient" });
  await node.pod("uid-1");
  using ztunnel = await TestZtunnel.connect(node.zdsPath);
  ztunnel.answer = (r) => (r.kind === "add" ? "port 15008 is taken" : "");
  const refused = await node.plugin("ADD");
  assert.equal(refused.code, 1);
  assert.match(refused.stdout, /port 15008 is taken/);
  await node.annotated("pending");
  ztunnel.answer = () => "";
  await node.annotated("enabled");
});

test("a pod's namespace is found through its processes, and believed by its address", {
  skip,
}, async () => {
  using net = new PodNetwork("scan");
  const proc = mkdtempSync(join(tmpdir(), "cni-proc-"));
  const [mine, other] = [
    "1f0c3a5e-7d7a-4a54-9a52-0e1d2c3b4a59",
    "00000000-7d7a-4a54-9a52-0e1d2c3b4a59",
  ];
  const process = (pid: number, ns: string, uid: string | null, start: number): void => {
    mkdirSync(join(proc, `${pid}/ns`), { recursive: true });
    symlinkSync(ns, join(proc, `${pid}/ns/net`));
    writeFileSync(join(proc, `${pid}/stat`), `${pid} (x) S ${"0 ".repeat(18)}${start} 0`);
    const path = uid === null ? "/" : `/kubepods/pod${uid}/0123abcd`;
    writeFileSync(join(proc, `${pid}/cgroup`), `0::${path}\n`);
  };
  process(1, net.path("node"), null, 1);
  process(2, net.path("node"), mine, 2); // of the pod, but visiting the node
  process(3, net.path("peer"), mine, 3); // of the pod, but visiting another pod
  process(4, net.path("pod"), null, 4);
  process(5, net.path("pod"), mine, 9);
  process(6, net.path("pod"), mine, 5);
  process(7, net.path("peer"), other, 7);
  mkdirSync(join(proc, "8")); // ended while we look
  try {
    const wanted = new Map([[mine, [ADDRESS.ipv4.pod]]]);
    const found = await scanProcesses(proc, wanted);
    assert.deepEqual([...found.keys()], [mine]);
    using netns = found.get(mine) ?? assert.fail("not found");
    assert.equal(netns.id, netnsId(net.pod));
    const scanner = new NetnsScanner(proc);
    const [a, b] = await Promise.all([
      scanner.find(mine, [ADDRESS.ipv6.pod]),
      scanner.find(other, [ADDRESS.ipv4.peer]),
    ]);
    assert.equal(a?.id, netnsId(net.pod));
    assert.equal(b?.id, netnsId(net.peer));
    a?.[Symbol.dispose]();
    b?.[Symbol.dispose]();
    assert.equal(await scanner.find(mine, [parseIp("10.99.9.9")]), null, "another address inside");
    assert.equal(await scanner.find(mine, []), null, "no address yet");
  } finally {
    rmSync(proc, { recursive: true });
  }
});

function ruleCount(node: TestNode): number {
  return node.net.exec("pod", "nft list ruleset").split("counter").length - 1;
}
