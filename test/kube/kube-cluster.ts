// A whole Kubernetes on this machine: control plane, nodes on a link that can be captured, cluster DNS and
// images, inside a sandbox that takes everything with it.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CONTROL_HOST,
  DNS_SERVICE_HOST,
  linkAddresses,
  serviceAddress,
  serviceFamilies,
  type IpFamilies,
} from "../../lab/address-plan.ts";
import type { Capture } from "../../lab/capture.ts";
import { LabError } from "../../lab/errors.ts";
import { Link } from "../../lab/link.ts";
import { Netns } from "../../lab/netns.ts";
import { run } from "../../lab/process.ts";
import { makeCgroup } from "./cgroups.ts";
import {
  API_HOST,
  API_PORT,
  clusterPodCidrs,
  connectOurselves,
  nodeRoutes,
  routesTo,
  serviceCidrs,
} from "./cluster-network.ts";
import { startClusterDns } from "./cluster-dns.ts";
import { ControlPlane, type ControlPlaneOptions, type KubectlResult } from "./control-plane.ts";
import { ambitImage, workloadImage, writeBusyboxImages } from "./images.ts";
import { KubeNode } from "./kube-node.ts";
import { sandboxCgroup } from "./kube-sandbox.ts";
import { TempDir } from "./temp-dir.ts";

const READY_MS = 60_000;
const POLL_MS = 200;
/** A kubelet that lost the race to register its Node stays not ready until it is started again. */
const KUBELET_PATIENCE_MS = 10_000;

export interface KubeClusterOptions
  extends Pick<ControlPlaneOptions, "crds" | "auditLog" | "flags"> {
  /** Two by default, `node-a` and so on; or their names, ten characters at most. */
  readonly nodes?: number | readonly string[];
  readonly ipFamily?: IpFamilies;
  /** Beside busybox. */
  readonly images?: readonly ("workload" | "ambit")[];
  readonly proxyMode?: "nftables" | "iptables";
}

/** Owns everything; use with `await using`. */
export class KubeCluster implements AsyncDisposable {
  readonly api: ControlPlane;
  readonly link: Link;
  readonly nodes: readonly KubeNode[];
  readonly dir: string;
  /** Milliseconds from the call of `start`. */
  readonly startupMs: Readonly<Record<"apiReady" | "nodesReady", number>>;
  readonly #owned: AsyncDisposableStack;

  private constructor(
    parts: Pick<KubeCluster, "api" | "link" | "nodes" | "dir" | "startupMs">,
    owned: AsyncDisposableStack,
  ) {
    this.api = parts.api;
    this.link = parts.link;
    this.nodes = parts.nodes;
    this.dir = parts.dir;
    this.startupMs = parts.startupMs;
    this.#owned = owned;
  }

  /** Resolves when all nodes are ready. Inside `kubeSandbox()` only. @throws {LabError} */
  static async start(options: KubeClusterOptions = {}): Promise<KubeCluster> {
    const startMs = Date.now();
    const families = options.ipFamily ?? "ipv4";
    const cgroup = sandboxCgroup();
    await using undo = new AsyncDisposableStack();
    const temp = undo.use(TempDir.create("cluster"));
    const link = undo.use(await Link.create(temp.path));
    await connectOurselves(link, families);
    const control = undo.use(await Netns.create("control"));
    await link.connect("control", control, linkAddresses(CONTROL_HOST, families));

    const nodes = nodeNames(options.nodes ?? 2).map((name, index) => {
      const cgroupRoot = `/${cgroup}/${name}`;
      makeCgroup(cgroupRoot);
      const dir = temp.file(name);
      mkdirSync(dir);
      const node = new KubeNode(
        {
          name,
          number: index + 1,
          families,
          dir,
          cgroupRoot,
          clusterDns: serviceFamilies(families).map((f) => serviceAddress(DNS_SERVICE_HOST, f)),
          clusterPodCidrs: clusterPodCidrs(families),
          proxyMode: options.proxyMode ?? "nftables",
          labels: {
            "topology.kubernetes.io/region": "test",
            "topology.kubernetes.io/zone": name,
          },
        },
        link,
      );
      return undo.use(node);
    });
    // after nodes and images, which use it, are gone: disposal runs in reverse
    const startApi = ControlPlane.start({
      ...pick(options),
      address: linkAddresses(API_HOST, families)[0] ?? "",
      port: API_PORT,
      serviceCidrs: serviceCidrs(families),
      controllerManager: true,
      scheduler: true,
    });
    const boots = nodes.map(async (node) => {
      await node.powerOn(nodeRoutes(node, nodes, families));
      await node.start("containerd");
    });
    const images = writeImages(temp.path, options.images ?? []);
    const [apiResult, ...results] = await Promise.allSettled([startApi, ...boots, images]);
    if (apiResult.status === "fulfilled") undo.use(apiResult.value);
    for (const result of [apiResult, ...results])
      if (result.status === "rejected") throw result.reason;
    const api = await startApi;
    const apiReady = Date.now() - startMs;
    await run(["ip", "-batch", "-"], { input: nodes.flatMap(routesTo).join("\n") });
    await control.ip(nodes.flatMap(routesTo));
    undo.use(await startClusterDns(api, control, families));
    await Promise.all(
      nodes.map(async (node) => {
        for (const file of await images) await node.importImage(file);
        await joinNode(api, node);
        await Promise.all([node.start("kube-proxy"), node.start("kubelet")]);
      }),
    );
    await Promise.all(nodes.map((node) => untilReady(api, node)));
    const startupMs = { apiReady, nodesReady: Date.now() - startMs };
    return new KubeCluster({ api, link, nodes, dir: temp.path, startupMs }, undo.move());
  }

  /** By name. @throws {LabError} `NOT_FOUND` */
  node(name: string): KubeNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found !== undefined) return found;
    throw new LabError("NOT_FOUND", `No node ${name}; there are ${this.nodes.map((n) => n.name)}`);
  }

  get kubeconfig(): string {
    return this.api.kubeconfig;
  }

  /** As `ControlPlane.kubectl`, but a failing command is an error. @throws {LabError} `COMMAND` */
  kubectl(args: readonly string[], stdin?: string, timeoutMs = 60_000): Promise<KubectlResult> {
    return this.api.kubectl(args, {
      ...(stdin === undefined ? {} : { stdin }),
      timeoutMs,
      allowFailure: false,
    });
  }

  /** Server-side apply of objects or YAML. */
  async apply(...objects: readonly (object | string)[]): Promise<void> {
    const documents = objects.map((o) => (typeof o === "string" ? o : JSON.stringify(o)));
    await this.kubectl(["apply", "--server-side", "-f", "-"], documents.join("\n---\n"));
  }

  /** `kubectl wait --for=condition=…` of one or more objects, such as `pod/client`. */
  async waitFor(
    condition: string,
    namespace: string,
    ...objects: readonly string[]
  ): Promise<void> {
    const args = ["wait", `--for=${condition}`, "-n", namespace, `--timeout=${READY_MS / 1000}s`];
    await this.kubectl([...args, ...objects], undefined, READY_MS + 10_000);
  }

  /** Asks until it holds. @throws {LabError} `NOT_READY` with what it waited for */
  async until(
    what: string,
    holds: () => Promise<boolean>,
    timeoutMs: number = READY_MS,
  ): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await holds())) {
      if (Date.now() > deadline)
        throw new LabError("NOT_READY", `Waited ${timeoutMs} ms in vain for ${what}`);
      await sleep(POLL_MS);
    }
  }

  /** A command in a running container; a failure is a result. */
  exec(namespace: string, pod: string, argv: readonly string[]): Promise<KubectlResult> {
    return this.api.kubectl(["exec", "-n", namespace, pod, "--", ...argv]);
  }

  /** Makes a `docker save` file available on every node. */
  async loadImage(file: string): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.importImage(file)));
  }

  /** Of the link between nodes, or of one node's port. */
  capture(options: { readonly port?: string; readonly filter?: string } = {}): Promise<Capture> {
    return this.link.capture(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]();
  }
}

/** The Node exists and is ready; its kubelet is started again once should it take too long. */
async function untilReady(api: ControlPlane, node: KubeNode): Promise<void> {
  const startMs = Date.now();
  let restarted = false;
  for (;;) {
    const path = [
      "get",
      "node",
      node.name,
      "-o",
      'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
    ];
    if ((await api.kubectl(path)).stdout === "True") return;
    const waitedMs = Date.now() - startMs;
    if (waitedMs > READY_MS) {
      const { stdout } = await api.kubectl(["describe", "node", node.name]);
      throw new LabError("NOT_READY", `Node ${node.name} is not ready\n${stdout}`);
    }
    if (waitedMs > KUBELET_PATIENCE_MS && !restarted) {
      restarted = true;
      await node.kill("kubelet");
      await node.start("kubelet");
    }
    await sleep(POLL_MS);
  }
}

async function joinNode(api: ControlPlane, node: KubeNode): Promise<void> {
  const user = `system:node:${node.name}`;
  node.join({
    caFile: api.caFile,
    kubeletKubeconfig: await api.userKubeconfig({ user, groups: ["system:nodes"] }),
    proxyKubeconfig: await api.userKubeconfig({ user: "system:kube-proxy" }),
  });
}

async function writeImages(
  dir: string,
  names: readonly ("workload" | "ambit")[],
): Promise<readonly string[]> {
  const target = join(dir, "images");
  mkdirSync(target);
  const files = await writeBusyboxImages(target);
  if (names.includes("workload")) files.push(await workloadImage());
  if (names.includes("ambit")) files.push(await ambitImage());
  return files;
}

function nodeNames(nodes: number | readonly string[]): readonly string[] {
  if (typeof nodes !== "number") return nodes;
  return Array.from({ length: nodes }, (_, index) => `node-${String.fromCodePoint(97 + index)}`);
}

function pick({ crds, auditLog, flags }: KubeClusterOptions): ControlPlaneOptions {
  return {
    ...(crds === undefined ? {} : { crds }),
    ...(auditLog === undefined ? {} : { auditLog }),
    ...(flags === undefined ? {} : { flags }),
  };
}
