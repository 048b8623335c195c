// A pod of the lab: a namespace attached by the CNI chain, its object in the cluster, and processes.
import { randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Pod } from "#lib/kube/objects.ts";
import type { CniAttachment, CniChain } from "./cni-chain.ts";
import { LabError } from "./errors.ts";
import type { HostProc } from "./host-proc.ts";
import type { Kubelet, PodSpec } from "./kubelet.ts";
import { Netns } from "./netns.ts";
import { waitForPath, waitForPort } from "./probe.ts";
import { LabProcess, run, type RunOptions, type RunResult } from "./process.ts";

const READY_TIMEOUT_MS = 15_000;
const RETRY_MS = 250;

/** The parts of its node that a pod needs; borrowed. */
export interface PodHost {
  readonly name: string;
  readonly netns: Netns;
  readonly chain: CniChain;
  readonly kubelet: Kubelet;
  readonly hostProc: HostProc;
  /** Per-pod files and logs go below. */
  readonly dir: string;
  /** Name servers of pods; none leaves the machine's resolv.conf. */
  readonly nameServers: readonly string[];
}

/** Owns the sandbox and every process started in it. */
export class LabPod implements AsyncDisposable {
  readonly node: string;
  readonly spec: PodSpec;
  /** As first stored; names and UID do not change. */
  readonly object: Pod;
  readonly ips: readonly string[];
  readonly netns: Netns;
  readonly attachment: CniAttachment;
  readonly #host: PodHost;
  readonly #processes = new Set<LabProcess>();
  readonly #forgetProc: () => Promise<void>;
  #main: LabProcess | null = null;
  #ended = false;

  private constructor(host: PodHost, spec: PodSpec, object: Pod, sandbox: Sandbox) {
    this.node = host.name;
    this.spec = spec;
    this.object = object;
    this.netns = sandbox.netns;
    this.attachment = sandbox.attachment;
    this.ips = sandbox.ips;
    this.#forgetProc = sandbox.forgetProc;
    this.#host = host;
  }

  /**
   * Runs a pod the way a kubelet does: object, sandbox, chain, process, readiness.
   * @throws {LabError} `CNI` when the chain refused for `retryMs`, `NOT_READY` when the process does not serve
   */
  static async run(host: PodHost, spec: PodSpec): Promise<LabPod> {
    const object = await host.kubelet.createPod(spec);
    let pod: LabPod;
    try {
      const sandbox = await createSandboxPatiently(host, spec, object);
      pod = new LabPod(host, spec, object, sandbox);
    } catch (error) {
      await host.kubelet.removePod(object);
      throw error;
    }
    try {
      await pod.#begin();
      return pod;
    } catch (error) {
      await pod[Symbol.asyncDispose]();
      throw error;
    }
  }

  get name(): string {
    return this.spec.name;
  }

  get namespace(): string {
    return this.spec.namespace ?? "default";
  }

  get uid(): string {
    return this.object.metadata.uid ?? "";
  }

  /** First address. */
  get ip(): string {
    return this.ips[0] ?? "";
  }

  ipv4(): string {
    return this.#familyIp(false);
  }

  ipv6(): string {
    return this.#familyIp(true);
  }

  /** The pod's own process, when its spec has a command. */
  get main(): LabProcess | null {
    return this.#main;
  }

  /** Runs a command inside to its end. @throws {LabError} `COMMAND` */
  exec(argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    return run(this.argv(argv), options);
  }

  /** Starts a process inside that goes on until it or the pod ends. */
  async start(
    argv: readonly string[],
    options: { readonly name?: string; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<LabProcess> {
    const name = `${this.namespace}/${this.name} ${options.name ?? argv[0] ?? ""}`;
    const logFile = join(this.#dir, `${(options.name ?? "process").replaceAll("/", "_")}.log`);
    const started = await LabProcess.start(this.argv(argv), {
      name,
      logFile,
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    this.#processes.add(started);
    void started.exited.then(() => this.#processes.delete(started));
    return started;
  }

  /** `argv` inside the pod: its network, and its own resolv.conf. */
  argv(argv: readonly string[]): string[] {
    const enter = ["nsenter", `--net=${this.netns.path}`, "--"];
    if (this.#host.nameServers.length === 0) return [...enter, ...argv];
    const script = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"';
    return [
      ...enter,
      "unshare",
      "--mount",
      "--",
      "sh",
      "-c",
      script,
      `${this.namespace}/${this.name}`, // what the shell calls itself when there is no such command
      join(this.#dir, "resolv.conf"),
      ...argv,
    ];
  }

  /** Marks the pod (not) ready, as a changed probe result would. */
  setReady(ready: boolean): Promise<void> {
    return this.#host.kubelet.setReady(this.object, ready);
  }

  /** CNI CHECK. @throws {LabError} `CNI` */
  check(): Promise<void> {
    return this.#host.chain.check(this.attachment);
  }

  /** Terminates like `kubectl delete`: announced, SIGTERM, grace, then DEL and removal. */
  async delete(graceMs = 2_000): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#host.kubelet.setTerminating(this.object).catch(() => {}); // object already removed by hand
    await Promise.all([...this.#processes].map((p) => p.stop(graceMs)));
    await this.#forgetProc();
    await deleteSandbox(this.#host, this.netns, this.attachment);
    await this.#host.kubelet.removePod(this.object);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.delete(500);
  }

  get #dir(): string {
    return podDir(this.#host, this.spec);
  }

  async #begin(): Promise<void> {
    const { command, readyPort, readyPath } = this.spec;
    const { kubelet, netns } = this.#host;
    if (command !== undefined) {
      this.#main = await this.start(command, {
        name: "main",
        ...(this.spec.env === undefined ? {} : { env: expand(this.spec.env, this.ip) }),
      });
      void this.#main.exited.then((code) => {
        if (!this.#ended) return kubelet.setFinished(this.object, code).catch(() => {});
      });
    }
    await kubelet.setRunning(this.object, this.ips, readyPort === undefined);
    if (readyPort === undefined) return;
    try {
      const isOver = (): boolean => this.#main?.running === false;
      await waitForPort(netns, this.ip, readyPort, READY_TIMEOUT_MS, isOver);
      if (readyPath !== undefined)
        await waitForPath(netns, this.ip, readyPort, readyPath, READY_TIMEOUT_MS, isOver);
    } catch (cause) {
      const output = this.#main?.tail() ?? "";
      throw new LabError(
        "NOT_READY",
        `Pod ${this.namespace}/${this.name} does not serve port ${readyPort}: ${String((cause as Error).message)}\n${output}`,
        { cause },
      );
    }
    await kubelet.setReady(this.object, true);
  }

  #familyIp(v6: boolean): string {
    const ip = this.ips.find((a) => a.includes(":") === v6);
    if (ip === undefined)
      throw new LabError("NOT_FOUND", `Pod ${this.name} has no IPv${v6 ? 6 : 4} address`);
    return ip;
  }
}

interface Sandbox {
  readonly netns: Netns;
  readonly attachment: CniAttachment;
  readonly ips: readonly string[];
  readonly forgetProc: () => Promise<void>;
}

/** A refused sandbox is destroyed and tried again in a new namespace until `retryMs` is over. */
async function createSandboxPatiently(host: PodHost, spec: PodSpec, pod: Pod): Promise<Sandbox> {
  const deadline = Date.now() + (spec.retryMs ?? 0);
  for (;;) {
    try {
      return await createSandbox(host, spec, pod);
    } catch (error) {
      await host.kubelet.setWaiting(pod, (error as Error).message);
      if (Date.now() + RETRY_MS > deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

async function createSandbox(host: PodHost, spec: PodSpec, pod: Pod): Promise<Sandbox> {
  const containerId = randomBytes(32).toString("hex");
  const { uid = "", namespace = "default" } = pod.metadata;
  const netns = await Netns.create(`cni-${containerId.slice(0, 12)}`);
  const attachment: CniAttachment = {
    containerId,
    netnsPath: netns.path,
    podName: spec.name,
    podNamespace: namespace,
    podUid: uid,
  };
  const forgetProc = await host.hostProc.addPod(uid, containerId, netns.path);
  try {
    await writePodFiles(host, spec);
    const result = await host.chain.add(attachment);
    const ips = (result.ips ?? []).map((ip) => ip.address.split("/")[0] ?? "");
    return { netns, attachment, ips, forgetProc };
  } catch (error) {
    await forgetProc();
    await netns[Symbol.asyncDispose]();
    throw error;
  }
}

async function deleteSandbox(
  host: PodHost,
  netns: Netns,
  attachment: CniAttachment,
): Promise<void> {
  await host.chain.delete(attachment);
  await netns[Symbol.asyncDispose]();
}

/** As a kubelet does for a field of the pod itself. */
function expand(env: Readonly<Record<string, string>>, ip: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => [name, value.replaceAll("$(POD_IP)", ip)]),
  );
}

const podDir = (host: PodHost, spec: PodSpec): string =>
  join(host.dir, "pods", `${spec.namespace ?? "default"}_${spec.name}`);

async function writePodFiles(host: PodHost, spec: PodSpec): Promise<void> {
  const dir = podDir(host, spec);
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const namespace = spec.namespace ?? "default";
  const lines = [
    ...host.nameServers.map((ip) => `nameserver ${ip}`),
    `search ${namespace}.svc.cluster.local svc.cluster.local cluster.local`,
    "options ndots:5",
  ];
  await writeFile(join(dir, "resolv.conf"), `${lines.join("\n")}\n`);
}
