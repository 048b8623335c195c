// The node agent as a DaemonSet's container runs it: the program itself, with a service account on a real
// API server, on a node made of network namespaces. The plugin is called as a runtime would call what the
// agent has installed.
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { TestZtunnel } from "../../../cni/agent/test-ztunnel.ts";
import { hasPodRules } from "../../../cni/rules/apply.ts";
import { scriptRunner } from "../../../cni/rules/exec.ts";
import {
  AGENT,
  agentDaemonSet,
  agentKubeconfig,
  annotationOf,
  MODE,
  namespace,
  NODE,
  pod,
  put,
} from "../api/cni-run.ts";
import { ControlPlane } from "../control-plane.ts";
import { freePorts } from "../ports.ts";
import { ADDRESS, cannotMakeNamespaces, PodNetwork } from "../../integration/cni-fixture.ts";

const skip = cannotMakeNamespaces();
const ROOT = resolve(import.meta.dirname, "../../..");
const TAINT = "cni.istio.io/not-ready";
const PRIMARY = { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "bridge" }] };

/** Those of the DaemonSet (cni/README.md), and no others; empty where setpriv is missing. */
const CAPABILITIES = ["net_admin", "net_raw", "sys_ptrace", "sys_admin", "dac_override"];

function withCapabilities(): readonly string[] {
  const bounding = ["-all", ...CAPABILITIES.map((name) => `+${name}`)].join(",");
  const command = ["setpriv", "--bounding-set", bounding, "--inh-caps", "-all"];
  const [program = "", ...args] = command;
  return spawnSync(program, [...args, "true"]).status === 0 ? command : [];
}

async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  log: () => string,
): Promise<void> {
  for (const deadline = Date.now() + 15_000; !(await condition()); )
    if (Date.now() > deadline) assert.fail(`${what}: not within 15 s\n${log()}`);
    else await new Promise((r) => setTimeout(r, 25));
}

/** A node's directories, its agent process and its ztunnel's socket. */
class TestNode implements AsyncDisposable {
  readonly net = new PodNetwork("kube");
  readonly dir = mkdtempSync(join(tmpdir(), "cni-kube-"));
  readonly #api: ControlPlane;
  readonly #port: number;
  #agent: ChildProcess | null = null;
  log = "";

  private constructor(api: ControlPlane, port: number) {
    this.#api = api;
    this.#port = port;
    for (const dir of ["image", "bin", "net.d", "run", "sa"]) mkdirSync(this.path(dir));
    const plugin = `exec '${process.execPath}' '${join(ROOT, "cni/plugin/main.ts")}'`;
    writeFileSync(this.path("image/istio-cni"), `#!/bin/sh\n${plugin}\n`, { mode: 0o755 });
    writeFileSync(this.path("net.d/10-lab.conflist"), `${JSON.stringify(PRIMARY, null, 2)}\n`);
    copyFileSync(api.caFile, this.path("sa/ca.crt"));
  }

  static async make(api: ControlPlane): Promise<TestNode> {
    const [port = 0] = await freePorts(1);
    const node = new TestNode(api, port);
    await node.login();
    return node;
  }

  /** A token for the agent, bound to a pod as kubelet's are. */
  async login(): Promise<void> {
    const name = "istio-cni-node-1";
    await put(this.#api, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: AGENT.namespace },
      spec: { serviceAccountName: AGENT.name, containers: [{ name: "c", image: "i" }] },
    });
    const token = await this.#api.serviceAccountToken({ ...AGENT, pod: name });
    writeFileSync(this.path("sa/token"), token);
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  start(): void {
    const url = new URL(this.#api.url);
    const [program, ...args] = [
      ...withCapabilities(),
      process.execPath,
      join(ROOT, "cni/agent/main.ts"),
    ];
    const agent = spawn(program, args, {
      env: {
        PATH: process.env["PATH"],
        NODE_NAME: NODE,
        POD_NAMESPACE: AGENT.namespace,
        KUBERNETES_SERVICE_HOST: url.hostname,
        KUBERNETES_SERVICE_PORT: url.port,
        HOME: "/nonexistent",
        SERVICE_ACCOUNT_DIR: this.path("sa"),
        CNI_AGENT_RUN_DIR: this.path("run"),
        ZTUNNEL_UDS_ADDRESS: this.path("ztunnel.sock"),
        CNI_BIN_SOURCE_DIR: this.path("image"),
        MOUNTED_CNI_BIN_DIR: this.path("bin"),
        MOUNTED_CNI_NET_DIR: this.path("net.d"),
        HOST_PROC: "/proc",
        HOST_NETNS_PREFIX: "",
        HOST_NETNS: this.net.path("node"),
        KUBELET_UID: "any",
        REMOVE_STARTUP_TAINT: "true",
        AUDIT_INTERVAL_SECONDS: "1",
        HEALTH_PORT: String(this.#port),
        MONITORING_PORT: "-1",
        DEBUG_PORT: "-1",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [agent.stdout, agent.stderr])
      stream.on("data", (chunk: Buffer) => (this.log += chunk.toString()));
    this.#agent = agent;
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const agent = this.#agent;
    if (agent === null) return;
    this.#agent = null;
    const ended = new Promise((done) => agent.once("exit", done));
    agent.kill(signal);
    await ended;
  }

  async isReady(): Promise<boolean> {
    return fetch(`http://127.0.0.1:${this.#port}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
  }

  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    return until(what, condition, () => this.log);
  }

  chain(): readonly { readonly type: string }[] {
    const text = readFileSync(this.path("net.d/10-lab.conflist"), "utf8");
    return (JSON.parse(text) as { plugins: { type: string }[] }).plugins;
  }

  /** Calls the last plugin of the chain, as installed. */
  async plugin(inNamespace: string, name: string, uid: string): Promise<string> {
    const entry = this.chain().at(-1);
    assert.equal(entry?.type, "istio-cni");
    const child = spawn(this.path("bin/istio-cni"), [], {
      env: {
        PATH: process.env["PATH"],
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "c1",
        CNI_NETNS: this.net.path("pod"),
        CNI_IFNAME: "eth0",
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAME=${name};K8S_POD_NAMESPACE=${inNamespace};K8S_POD_UID=${uid}`,
      },
      stdio: ["pipe", "pipe", "ignore"],
    });
    const ips = [{ address: `${ADDRESS.ipv4.pod}/24`, gateway: "10.99.1.1" }];
    child.stdin.end(
      JSON.stringify({
        ...entry,
        cniVersion: "1.0.0",
        name: "lab",
        prevResult: { cniVersion: "1.0.0", ips },
      }),
    );
    let stdout = "";
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    const code = await new Promise((done) => child.once("close", done));
    return code === 0 ? "added" : stdout;
  }

  hasRules(): Promise<boolean> {
    return hasPodRules(scriptRunner(this.net.pod, 5_000), { kind: "nft" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    this.net[Symbol.dispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

test("a DaemonSet's agent: installed, enrolling, killed, upgraded, removed", { skip }, async () => {
  await using api = await ControlPlane.start();
  await put(api, namespace(AGENT.namespace), namespace("shop", { [MODE]: "ambient" }));
  await put(api, namespace("other"));
  await agentKubeconfig(api);
  for (const name of ["shop", "other"])
    await api.serviceAccountToken({ namespace: name, name: "default" });
  const taints = [{ key: TAINT, effect: "NoSchedule" }];
  await put(
    api,
    { apiVersion: "v1", kind: "Node", metadata: { name: NODE }, spec: { taints } },
    agentDaemonSet(),
    pod("cart", { ip: ADDRESS.ipv4.pod }),
  );
  const uid = await jsonPath(api, ["pod", "-n", "shop", "cart"], "{.metadata.uid}");
  const isTainted = async (): Promise<boolean> =>
    (await jsonPath(api, ["node", NODE], "{.spec.taints[*].key}")).includes(TAINT);
  await using node = await TestNode.make(api);

  node.start();
  await node.until("readiness", () => node.isReady());
  assert.deepEqual(
    node.chain().map((p) => p.type),
    ["bridge", "istio-cni"],
  );
  assert.equal(await isTainted(), true, "no ztunnel yet");
  assert.match(await node.plugin("shop", "cart", uid), /no ztunnel connection/);
  using ztunnel = await TestZtunnel.connect(node.path("ztunnel.sock"));
  await ztunnel.has("snapshotSent");
  await node.until("the taint's end", async () => !(await isTainted()));
  assert.equal(await node.plugin("shop", "cart", uid), "added");
  assert.equal(await annotationOf(api, "cart"), "enabled");
  assert.equal(await node.hasRules(), true);

  // the agent is killed, and its pod is gone: pods of the mesh wait, others start
  await node.stop("SIGKILL");
  await api.kubectl(["delete", "pod", "-n", AGENT.namespace, "istio-cni-node-1", "--now"]);
  assert.match(await node.plugin("shop", "cart", uid), /Cannot reach the node agent/);
  const { code, stderr } = await api.kubectl([
    "run",
    "-n",
    "other",
    "plain",
    "--image=i",
    "--overrides",
    nodeName(NODE),
  ]);
  assert.equal(code, 0, stderr);
  const plain = await jsonPath(api, ["pod", "-n", "other", "plain"], "{.metadata.uid}");
  assert.equal(await node.plugin("other", "plain", plain), "added");
  assert.equal(await node.plugin(AGENT.namespace, "istio-cni-node-x", "u"), "added", "itself");

  // a reboot: the namespace is another, the annotation says enabled, the chain was rewritten
  node.net.exec("pod", "nft flush ruleset");
  writeFileSync(node.path("net.d/10-lab.conflist"), JSON.stringify(PRIMARY));
  assert.equal(await annotationOf(api, "cart"), "enabled");
  await node.login();
  node.start();
  await node.until("readiness", () => node.isReady());
  assert.equal(await node.hasRules(), true, "repaired before it is ready");
  assert.equal(node.chain().length, 2);

  // an upgrade stops the agent: all stays
  await node.stop("SIGTERM");
  assert.equal(node.chain().length, 2, node.log);
  assert.match(node.net.exec("node", "nft list tables"), /istio-ambient-nat/);

  // the DaemonSet goes: nothing stays but what is inside pods
  node.start();
  await node.until("readiness", () => node.isReady());
  await api.kubectl(["delete", "daemonset", "-n", AGENT.namespace, "istio-cni-node"]);
  await node.stop("SIGTERM");
  assert.deepEqual(node.chain(), PRIMARY.plugins, node.log);
  assert.deepEqual(readdirSync(node.path("bin")), []);
  assert.deepEqual(readdirSync(node.path("run")), []);
  assert.equal(existsSync(node.path("ztunnel.sock")), false);
  assert.doesNotMatch(node.net.exec("node", "nft list tables"), /istio/);
  assert.equal(await node.hasRules(), true);
});

function nodeName(name: string): string {
  return JSON.stringify({ spec: { nodeName: name } });
}

async function jsonPath(api: ControlPlane, what: readonly string[], path: string): Promise<string> {
  const { stdout, stderr, code } = await api.kubectl(["get", ...what, "-o", `jsonpath=${path}`]);
  assert.equal(code, 0, stderr);
  return stdout;
}
