// One node of a test cluster: a network namespace on the link, a file system of its own, and in it
// containerd, kubelet and kube-proxy. A crash is one kill; a reboot keeps the disk and nothing else.
import { copyFileSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { linkAddresses, podCidrs, type IpFamilies } from "../../lab/address-plan.ts";
import { LabError } from "../../lab/errors.ts";
import type { Link } from "../../lab/link.ts";
import { Netns } from "../../lab/netns.ts";
import { LabProcess, run, type RunOptions, type RunResult } from "../../lab/process.ts";
import { onPath, program } from "./binaries.ts";
import { CONTAINERD_SOCKET, writeNodeFiles, type NodeFilesOptions } from "./node-files.ts";

/** What runs on a node, in the order it starts. */
export const NODE_PROGRAMS = ["containerd", "kube-proxy", "kubelet"] as const;
export type NodeProgram = (typeof NODE_PROGRAMS)[number];

const READY_MS = 30_000;
const POLL_MS = 100;
/** Restart=always. A signal to the group ends both. */
const SERVICE = 'while :; do "$@"; sleep 0.5; done';
const CNI_PLUGINS = ["bridge", "host-local", "loopback", "portmap"];
/** As on any Kubernetes node: packets between pods of one bridge are seen by netfilter, too. */
const SYSCTLS = {
  "net/ipv4/ip_forward": "1",
  "net/ipv6/conf/all/forwarding": "1",
  "net/bridge/bridge-nf-call-iptables": "1",
  "net/bridge/bridge-nf-call-ip6tables": "1",
} as const;

export interface KubeNodeOptions
  extends Pick<NodeFilesOptions, "cgroupRoot" | "clusterDns" | "clusterPodCidrs" | "proxyMode"> {
  readonly name: string;
  /** From 1; decides the addresses. */
  readonly number: number;
  readonly families: IpFamilies;
  readonly dir: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What joining the cluster needs. */
export interface NodeCredentials {
  readonly caFile: string;
  readonly kubeletKubeconfig: string;
  readonly proxyKubeconfig: string;
}

export interface RebootOptions {
  readonly order?: readonly NodeProgram[];
  /** How long the node stays off. */
  readonly offMs?: number;
  readonly between?: (next: NodeProgram) => Promise<void>;
}

/** Owns its namespaces and processes; borrows the link. */
export class KubeNode implements AsyncDisposable {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  /** The node's `/etc`, `/opt` and `/var`, as seen from outside; `etc` and `opt` hold what differs from the machine's. */
  readonly disk: string;
  readonly #options: KubeNodeOptions;
  readonly #link: Link;
  readonly #running = new Map<NodeProgram, LabProcess>();
  #routes: readonly string[] = [];
  #netns: Netns | null = null;
  #init: LabProcess | null = null;

  constructor(options: KubeNodeOptions, link: Link) {
    this.name = options.name;
    this.addresses = linkAddresses(options.number, options.families);
    this.podCidrs = podCidrs(options.number, options.families);
    this.disk = join(options.dir, "disk");
    this.#options = options;
    this.#link = link;
    writeNodeFiles(this.disk, { ...options, addresses: this.addresses, podCidrs: this.podCidrs });
    const bin = join(this.disk, "opt/cni/bin");
    mkdirSync(bin, { recursive: true });
    for (const name of CNI_PLUGINS) symlinkSync(`/usr/lib/cni/${name}`, join(bin, name));
  }

  /** Exists while the node is powered on. */
  get netns(): Netns {
    if (this.#netns === null) throw new LabError("NOT_FOUND", `Node ${this.name} is down`);
    return this.#netns;
  }

  get isOn(): boolean {
    return this.#init?.running === true;
  }

  join(credentials: NodeCredentials): void {
    const etc = join(this.disk, "etc/kubernetes");
    copyFileSync(credentials.caFile, join(etc, "ca.crt"));
    copyFileSync(credentials.kubeletKubeconfig, join(etc, "kubelet.kubeconfig"));
    copyFileSync(credentials.proxyKubeconfig, join(etc, "kube-proxy.kubeconfig"));
  }

  /** Namespaces and file system, without any program. `routes`: lines for `ip -batch`. */
  async powerOn(routes: readonly string[] = this.#routes): Promise<void> {
    this.#routes = routes;
    const netns = await Netns.create(`node-${this.name}`, SYSCTLS);
    this.#netns = netns;
    await this.#link.connect(this.name, netns, this.addresses);
    // the same after each reboot, as a network card's: neighbours remember it
    const mac = `02:00:ac:1e:00:${this.#options.number.toString(16).padStart(2, "0")}`;
    await netns.ip([`link set dev eth0 address ${mac}`, ...routes]);
    const programs = await Promise.all([
      program("kubelet"),
      program("kube-proxy"),
      program("kubectl"),
    ]);
    const unshare = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"];
    const script = join(import.meta.dirname, "node-init.sh");
    this.#init = await netns.start([...unshare, "sh", script, this.name, this.disk, ...programs], {
      name: `node ${this.name}`,
      logFile: this.logFile("init"),
    });
    await this.#init.waitForOutput(/node is up/);
  }

  /** Everything on the node ends at once, without a word to anybody; what was not on disk is gone. */
  async powerOff(): Promise<void> {
    this.#init?.kill("SIGKILL");
    await this.#init?.exited;
    for (const child of this.#running.values()) child.kill("SIGKILL");
    await Promise.all([...this.#running.values()].map((child) => child.exited));
    this.#running.clear();
    this.#init = null;
    const netns = this.#netns;
    this.#netns = null;
    if (netns === null) return;
    // the namespace goes when the kernel gets to it; the port's name must be free before
    const { name } = netns;
    await this.#link.netns.run(["ip", "link", "delete", name], { allowFailure: true });
    await netns[Symbol.asyncDispose]();
  }

  /** Starts one program, and again whenever it ends, as a service manager would. Resolves when it does its work. */
  async start(name: NodeProgram): Promise<void> {
    await this.#launch(name);
    await this.#untilReady(name);
  }

  async kill(name: NodeProgram, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#running.get(name);
    child?.kill(signal);
    await child?.exited;
    this.#running.delete(name);
  }

  /**
   * A crash and a new start: no container, namespace, rule or socket is left, files are. Programs start in
   * `order`, none waits for the one before; `between` is called before each. Resolves when all do their work.
   */
  async reboot(options: RebootOptions = {}): Promise<void> {
    const order = options.order ?? NODE_PROGRAMS;
    await this.powerOff();
    await sleep(options.offMs ?? 0);
    await this.powerOn();
    for (const name of order) {
      await options.between?.(name);
      await this.#launch(name);
    }
    for (const name of order) await this.#untilReady(name);
  }

  /** Makes a `docker save` file available to pods. Needs containerd. */
  async importImage(file: string): Promise<void> {
    const ctr = [onPath("ctr", "make kube-deps"), "--address", CONTAINERD_SOCKET];
    const argv = this.#enter([...ctr, "-n", "k8s.io", "images", "import", "-"]);
    // opened out here: the node may not see the file
    await run(["sh", "-c", 'exec "$@" <"$0"', file, ...argv], { timeoutMs: 120_000 });
  }

  /** A command on the node, in all its namespaces. */
  exec(argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    return run(this.#enter(argv), options);
  }

  logFile(name: NodeProgram | "init"): string {
    return join(this.#options.dir, `${name}.log`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.powerOff();
  }

  async #launch(name: NodeProgram): Promise<void> {
    if (this.#running.get(name)?.running === true) return;
    const argv = ["sh", "-c", SERVICE, name, ...this.#argv(name)];
    const child = await LabProcess.start(this.#enter(argv), {
      name: `${name} on ${this.name}`,
      logFile: this.logFile(name),
    });
    this.#running.set(name, child);
  }

  async #untilReady(name: NodeProgram): Promise<void> {
    const child = this.#running.get(name);
    const deadline = Date.now() + READY_MS;
    while ((await this.exec(READY[name], { allowFailure: true })).code !== 0) {
      if (child?.running !== true || Date.now() > deadline)
        throw new LabError(
          "NOT_READY",
          `${name} on ${this.name} is not ready\n${child?.tail(25) ?? "it was stopped"}`,
        );
      await sleep(POLL_MS);
    }
  }

  #argv(name: NodeProgram): string[] {
    switch (name) {
      case "containerd":
        return [onPath("containerd", "make kube-deps")];
      case "kube-proxy":
        return ["/opt/kube/kube-proxy", "--config=/etc/kubernetes/kube-proxy.json"];
      case "kubelet":
        return [
          "/opt/kube/kubelet",
          "--config=/etc/kubernetes/kubelet.json",
          "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
          `--hostname-override=${this.name}`,
          `--node-ip=${this.addresses.join(",")}`,
          `--node-labels=${Object.entries(this.#options.labels)
            .map(([key, value]) => `${key}=${value}`)
            .join(",")}`,
        ];
      default:
        return name satisfies never;
    }
  }

  #enter(argv: readonly string[]): string[] {
    const flags = ["--mount", "--pid", "--net", "--uts", "--wd=/"];
    return ["nsenter", `--target=${this.#initPid()}`, ...flags, "--", ...argv];
  }

  /** Of the node's process 1, as we see it: `unshare` has one child. */
  #initPid(): number {
    const parent = this.#init?.pid;
    if (parent === undefined) throw new LabError("NOT_FOUND", `Node ${this.name} is down`);
    const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8");
    return Number(children.trim().split(" ")[0]);
  }
}

/** Commands that succeed once the program does its work. */
const READY: Readonly<Record<NodeProgram, readonly string[]>> = {
  containerd: ["ctr", "--address", CONTAINERD_SOCKET, "version"],
  "kube-proxy": ["curl", "-sfo", "/dev/null", "http://127.0.0.1:10256/livez"],
  kubelet: ["curl", "-sfo", "/dev/null", "http://127.0.0.1:10248/healthz"],
};
