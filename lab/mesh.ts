// The mesh parts of a lab as processes: one istiod, and a ztunnel and a node agent for each node. Each can
// be started, stopped, killed and restarted while traffic runs.
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { LabError } from "./errors.ts";
import { KUBELET } from "./kubelet.ts";
import {
  cniPlan,
  istiodPlan,
  pluginConfig,
  ROOT,
  SYSTEM_NAMESPACE,
  ztunnelPlan,
  type MeshFiles,
  type NodeFiles,
  type PartName,
  type PartPlan,
} from "./mesh-parts.ts";
import type { Netns } from "./netns.ts";
import type { LabNode } from "./node.ts";
import { connectFrom } from "./probe.ts";
import type { LabProcess } from "./process.ts";
import {
  ProjectedToken,
  type TokenIssuer,
  type TokenOptions,
  type TokenSubject,
} from "./tokens.ts";

const READY_TIMEOUT_MS = 20_000;
const READY_POLL_MS = 50;
/** There in IPv6-only labs as well. */
const LOOPBACK = "127.0.0.1";
const STOP_GRACE_MS = 12_000;

export interface MeshPart {
  readonly name: PartName;
  /** `null` for istiod. */
  readonly node: string | null;
  readonly netns: Netns;
  readonly logFile: string;
  process: LabProcess | null;
  readonly plan: () => PartPlan;
}

export interface MeshOptions {
  readonly dir: string;
  readonly files: MeshFiles;
  readonly control: Netns;
  readonly token: TokenOptions;
}

/** Owns the processes and token files; borrows the namespaces. */
export class Mesh implements AsyncDisposable {
  readonly #options: MeshOptions;
  readonly #cluster: Cluster;
  readonly #issuer: TokenIssuer;
  readonly #parts = new Map<string, MeshPart>();
  readonly #nodes = new Map<string, LabNode>();
  readonly #tokens = new Map<string, ProjectedToken>();
  /** Settings that tests add to a part's environment, by part name. */
  readonly #extraEnv = new Map<PartName, Readonly<Record<string, string>>>();

  constructor(options: MeshOptions, cluster: Cluster, issuer: TokenIssuer) {
    this.#options = options;
    this.#cluster = cluster;
    this.#issuer = issuer;
    this.#parts.set("istiod", {
      name: "istiod",
      node: null,
      netns: options.control,
      logFile: join(options.dir, "istiod.log"),
      process: null,
      plan: () => istiodPlan(options.files),
    });
  }

  addNode(node: LabNode): void {
    this.#nodes.set(node.name, node);
    const nodeFiles: NodeFiles = {
      name: node.name,
      address: node.addresses[0] ?? "",
      netnsPath: node.netns.path,
      hostProc: node.hostProc.dir,
      runDir: join(node.dir, "run"),
      tokenFile: join(node.dir, "tokens", "istio-token"),
    };
    for (const [name, plan] of [
      ["ztunnel", ztunnelPlan],
      ["cni", cniPlan],
    ] as const)
      this.#parts.set(`${name}/${node.name}`, {
        name,
        node: node.name,
        netns: node.netns,
        logFile: join(node.dir, `${name}.log`),
        process: null,
        plan: () => plan(this.#options.files, nodeFiles),
      });
  }

  get parts(): readonly MeshPart[] {
    return [...this.#parts.values()];
  }

  /** @throws {LabError} `NOT_FOUND` */
  part(name: PartName, node?: string): MeshPart {
    const part = this.#parts.get(name === "istiod" ? "istiod" : `${name}/${node ?? ""}`);
    if (part === undefined)
      throw new LabError(
        "NOT_FOUND",
        `No ${name} ${node === undefined ? "without a node" : `on node ${node}`}`,
      );
    return part;
  }

  /** Parts that were started and have ended, each with the tail of its log. */
  endedParts(): string[] {
    return this.parts.flatMap((part) => {
      const { process: ended } = part;
      if (ended === null || ended.running) return [];
      return [`${partTitle(part)} ended with status ${ended.exitCode}:\n${ended.tail()}`];
    });
  }

  /** Adds to the environment of parts started from now on. */
  setEnv(name: PartName, env: Readonly<Record<string, string>>): void {
    this.#extraEnv.set(name, env);
  }

  /** What an istiod of this lab is started with. */
  istiodSettings(): { readonly files: MeshFiles; readonly env: Readonly<Record<string, string>> } {
    return { files: this.#options.files, env: this.#extraEnv.get("istiod") ?? {} };
  }

  /** A token for any service account, as a kubelet would get it for a pod; faulty ones by `options`. */
  issueToken(subject: TokenSubject, options?: TokenOptions): Promise<string> {
    return this.#issuer.issue(subject, options);
  }

  /**
   * Starts a part and waits until it says it is ready (`wait: false`: only until it runs).
   * @throws {LabError} `MISSING_PROGRAM`, `NOT_READY` with the tail of its log
   */
  async start(name: PartName, node?: string, { wait = true } = {}): Promise<MeshPart> {
    const part = this.part(name, node);
    if (part.process?.running === true)
      throw new LabError("CONFLICT", `${partTitle(part)} already runs`);
    const plan = part.plan();
    await this.#prepare(part);
    part.process = await part.netns.start(plan.argv, {
      name: partTitle(part),
      logFile: part.logFile,
      env: { ...plan.env, ...this.#extraEnv.get(name) },
    });
    if (wait) await this.waitReady(part);
    return part;
  }

  /** istiod first, then all agents and ztunnels side by side: each waits for the other. */
  async startAll(): Promise<void> {
    await this.start("istiod");
    const nodes = [...this.#nodes.keys()];
    await Promise.all(
      nodes.flatMap((node) => [this.start("cni", node), this.start("ztunnel", node)]),
    );
  }

  /** SIGTERM and wait. Resolves with the exit status; `null` when it did not run. */
  async stop(name: PartName, node?: string): Promise<number | null> {
    const { process: running } = this.part(name, node);
    return running === null || !running.running ? null : running.stop(STOP_GRACE_MS);
  }

  /** kill -9. */
  async kill(name: PartName, node?: string): Promise<void> {
    const { process: running } = this.part(name, node);
    running?.kill("SIGKILL");
    await running?.exited;
  }

  async restart(name: PartName, node?: string): Promise<MeshPart> {
    await this.stop(name, node);
    return this.start(name, node);
  }

  /** Polls the part's readiness endpoint. @throws {LabError} `NOT_READY` */
  async waitReady(part: MeshPart, timeoutMs = READY_TIMEOUT_MS): Promise<void> {
    const { ready } = part.plan();
    const deadline = Date.now() + timeoutMs;
    let last = "no answer";
    while (Date.now() < deadline) {
      if (part.process?.running !== true)
        throw new LabError(
          "NOT_READY",
          `${partTitle(part)} ended with status ${part.process?.exitCode}:\n${part.process?.tail() ?? ""}`,
        );
      try {
        const response = await this.request(part, ready.port, ready.path, 1_000);
        if (response.statusCode === 200) return void response.resume();
        last = `HTTP ${response.statusCode}: ${(await text(response)).trim().slice(0, 500)}`;
      } catch (error) {
        last = (error as Error).message;
      }
      await sleep(READY_POLL_MS);
    }
    throw new LabError(
      "NOT_READY",
      `${partTitle(part)} is not ready after ${timeoutMs} ms (${last}):\n${part.process?.tail() ?? ""}`,
    );
  }

  /** An HTTP request without body to a loopback port of the part's own namespace. The caller reads the response. */
  async request(
    part: MeshPart,
    port: number,
    path: string,
    timeoutMs: number,
    method: "GET" | "POST" = "GET",
  ): Promise<IncomingMessage> {
    const socket = await connectFrom(part.netns, LOOPBACK, port, timeoutMs);
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        { createConnection: () => socket, method, path, headers: { host: "localhost" } },
        resolve,
      );
      request.setTimeout(timeoutMs, () =>
        request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
      );
      request.once("response", () => request.setTimeout(0));
      request.once("error", (error) => {
        socket.destroy();
        reject(error);
      });
      request.end();
    });
  }

  /** GET as JSON from a part's admin or monitoring port. @throws {LabError} `NOT_READY` */
  async json(
    name: PartName,
    node: string | undefined,
    port: number,
    path: string,
  ): Promise<unknown> {
    const part = this.part(name, node);
    const response = await this.request(part, port, path, 5_000);
    const body = await text(response);
    if (response.statusCode === 200) return JSON.parse(body);
    throw new LabError(
      "NOT_READY",
      `${partTitle(part)} ${path}: HTTP ${response.statusCode} ${body.slice(0, 200)}`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const token of this.#tokens.values()) token[Symbol.dispose]();
    // agents first: a ztunnel that goes away is then nobody's business
    for (const name of ["cni", "ztunnel", "istiod"] as const)
      await Promise.all(
        this.parts.flatMap((p) =>
          p.name === name && p.process !== null ? [p.process.stop(1_500)] : [],
        ),
      );
  }

  async #prepare(part: MeshPart): Promise<void> {
    const node = part.node === null ? undefined : this.#nodes.get(part.node);
    if (node === undefined) return;
    const runDir = join(node.dir, "run");
    await mkdir(runDir, { recursive: true });
    if (part.name === "cni") {
      await writePluginExecutable(join(this.#options.dir, "bin"));
      await node.chainPlugin("istio-cni", pluginConfig(runDir));
      await this.#partPod(node, `istio-cni-node-${node.name}`, "istio-cni", {
        "k8s-app": "istio-cni-node",
      });
    } else {
      const pod = await this.#partPod(node, `ztunnel-${node.name}`, "ztunnel", { app: "ztunnel" });
      const { name, uid = "" } = pod.metadata;
      this.#tokens.get(node.name)?.[Symbol.dispose]();
      const token = await ProjectedToken.create(
        this.#issuer,
        join(node.dir, "tokens", "istio-token"),
        {
          namespace: SYSTEM_NAMESPACE,
          serviceAccount: "ztunnel",
          pod: { name, uid },
          node: { name: node.name },
        },
        this.#options.token,
      );
      this.#tokens.set(node.name, token);
    }
  }

  /** The object of a DaemonSet pod; it keeps its UID over restarts of the process. */
  async #partPod(
    node: LabNode,
    name: string,
    serviceAccount: string,
    labels: Readonly<Record<string, string>>,
  ): Promise<Pod> {
    const old = await this.#cluster.get(RESOURCES.pods, SYSTEM_NAMESPACE, name);
    if (old !== null) return old;
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: SYSTEM_NAMESPACE } };
    await this.#cluster.apply(RESOURCES.namespaces, namespace, KUBELET);
    const pod = await node.kubelet.createPod(
      {
        name,
        namespace: SYSTEM_NAMESPACE,
        serviceAccount,
        labels: { ...labels, "istio.io/dataplane-mode": "none" },
      },
      true,
    );
    await node.kubelet.setRunning(pod, node.addresses, true);
    return pod;
  }
}

function partTitle(part: Pick<MeshPart, "name" | "node">): string {
  return part.node === null ? part.name : `${part.name} on node ${part.node}`;
}

/** Runs the plugin from its sources; AMBIT_CNI_PLUGIN names a built executable instead. */
async function writePluginExecutable(binDir: string): Promise<void> {
  await mkdir(binDir, { recursive: true });
  const built = process.env["AMBIT_CNI_PLUGIN"];
  const command =
    built === undefined
      ? `'${process.execPath}' '${join(ROOT, "cni/plugin/main.ts")}'`
      : `'${built}'`;
  const file = join(binDir, "istio-cni");
  await writeFile(file, `#!/bin/sh\nexec ${command}\n`);
  await chmod(file, 0o755);
}
