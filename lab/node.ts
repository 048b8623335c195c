// One node: a namespace on the link with a pod range, a CNI configuration and a kubelet stand-in.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Cluster } from "#lib/kube/cluster.ts";
import { linkAddresses, podCidrs, type IpFamilies } from "./address-plan.ts";
import { CniChain, type CniPluginConfig } from "./cni-chain.ts";
import { LabError } from "./errors.ts";
import { HostProc } from "./host-proc.ts";
import { Kubelet, type PodSpec } from "./kubelet.ts";
import type { Link } from "./link.ts";
import { Netns } from "./netns.ts";
import { LabPod, type PodHost } from "./pod.ts";
import type { RunOptions, RunResult } from "./process.ts";

/** Where Debian's containernetworking-plugins puts its executables. */
const SYSTEM_CNI_DIRS = ["/usr/lib/cni", "/opt/cni/bin"];
const CONFIG_FILE = "10-lab.conflist";
/** Both directions are looked at by conntrack even between pods of one bridge, as on any Kubernetes node. */
const NODE_SYSCTLS = {
  "net/ipv4/ip_forward": "1",
  "net/ipv6/conf/all/forwarding": "1",
  "net/bridge/bridge-nf-call-iptables": "1",
  "net/bridge/bridge-nf-call-ip6tables": "1",
} as const;

export interface LabNodeOptions {
  readonly name: string;
  /** From 1; decides the addresses. */
  readonly number: number;
  readonly families: IpFamilies;
  readonly region: string;
  readonly zone: string;
  /** This node's directory. */
  readonly dir: string;
  /** Directory with the mesh's own plugin executable. */
  readonly binDir: string;
  readonly nameServers: readonly string[];
}

/** Owns its namespace and pods; borrows cluster and link. */
export class LabNode implements PodHost, AsyncDisposable {
  readonly name: string;
  readonly number: number;
  readonly dir: string;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  readonly nameServers: readonly string[];
  readonly zone: string;
  readonly netns: Netns;
  readonly chain: CniChain;
  readonly kubelet: Kubelet;
  readonly hostProc: HostProc;
  readonly #pods = new Map<string, LabPod>();

  private constructor(options: LabNodeOptions, cluster: Cluster, netns: Netns, hostProc: HostProc) {
    this.name = options.name;
    this.number = options.number;
    this.dir = options.dir;
    this.zone = options.zone;
    this.nameServers = options.nameServers;
    this.netns = netns;
    this.hostProc = hostProc;
    this.addresses = linkAddresses(options.number, options.families);
    this.podCidrs = podCidrs(options.number, options.families);
    this.kubelet = new Kubelet(cluster, {
      name: this.name,
      addresses: this.addresses,
      podCidrs: this.podCidrs,
      region: options.region,
      zone: options.zone,
    });
    this.chain = new CniChain({
      netns: netns.name,
      configDir: this.cniConfigDir,
      binDirs: [...SYSTEM_CNI_DIRS, options.binDir],
      cacheDir: join(this.dir, "cni", "results"),
    });
  }

  static async create(options: LabNodeOptions, cluster: Cluster, link: Link): Promise<LabNode> {
    if (!/^[a-z][a-z0-9-]{0,9}$/.test(options.name))
      throw new LabError("CONFLICT", `Node name ${options.name}: up to ten of a-z, 0-9 and "-"`);
    const netns = await Netns.create(`node-${options.name}`, NODE_SYSCTLS);
    const hostProc = await HostProc.create(join(options.dir, "proc"), netns.path);
    const node = new LabNode(options, cluster, netns, hostProc);
    await link.connect(options.name, netns, node.addresses);
    await node.#writeCniConfig();
    await node.kubelet.registerNode();
    return node;
  }

  get cniConfigDir(): string {
    return join(this.dir, "cni", "net.d");
  }

  get pods(): readonly LabPod[] {
    return [...this.#pods.values()];
  }

  /** Runs a pod here; resolves when it is ready. */
  async pod(spec: PodSpec): Promise<LabPod> {
    const key = `${spec.namespace ?? "default"}/${spec.name}`;
    const old = this.#pods.get(key);
    if (old !== undefined)
      throw new LabError("CONFLICT", `Pod ${key} already runs on node ${this.name}`);
    const pod = await LabPod.run(this, spec);
    this.#pods.set(key, pod);
    return pod;
  }

  findPod(namespace: string, name: string): LabPod | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  async deletePod(namespace: string, name: string): Promise<void> {
    const key = `${namespace}/${name}`;
    const pod = this.#pods.get(key);
    if (pod === undefined) throw new LabError("NOT_FOUND", `No pod ${key} on node ${this.name}`);
    await pod.delete();
    this.#pods.delete(key);
  }

  /** Runs a command in the node's network namespace. */
  exec(argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.netns.run(argv, options);
  }

  /** Adds or replaces the plugin at the end of the chain, as the agent's installer does; `null` removes it. */
  async chainPlugin(type: string, plugin: CniPluginConfig | null): Promise<void> {
    const config = await this.chain.readConfig();
    const others = config.plugins.filter((p) => p.type !== type);
    await this.#write({ ...config, plugins: plugin === null ? others : [...others, plugin] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.pods.map((p) => p[Symbol.asyncDispose]()));
    this.#pods.clear();
    await this.kubelet.deregisterNode();
    await this.netns[Symbol.asyncDispose]();
  }

  async #writeCniConfig(): Promise<void> {
    const bridge: CniPluginConfig = {
      type: "bridge",
      bridge: "cni0",
      isGateway: true,
      isDefaultGateway: true,
      ipMasq: false,
      hairpinMode: true,
      ipam: {
        type: "host-local",
        dataDir: join(this.dir, "cni", "ipam"),
        ranges: this.podCidrs.map((subnet) => [{ subnet }]),
      },
    };
    await this.#write({ cniVersion: "1.0.0", name: "lab", plugins: [bridge] });
  }

  async #write(config: object): Promise<void> {
    await mkdir(this.cniConfigDir, { recursive: true });
    await writeFile(join(this.cniConfigDir, CONFIG_FILE), `${JSON.stringify(config, null, 2)}\n`);
  }
}
