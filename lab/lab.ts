// A cluster on this machine: nodes on a link, pods made by a CNI chain, Kubernetes objects in a
// directory, and the mesh's parts as processes. Must run inside a sandbox (sandbox.ts).
import { join } from "node:path";
import type { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { RESOURCES, type Namespace, type Service, type ServicePort } from "#lib/kube/objects.ts";
import {
  CONTROL_HOST,
  DNS_SERVICE_HOST,
  linkAddresses,
  MAX_NODES,
  serviceAddress,
  serviceFamilies,
  type IpFamilies,
} from "./address-plan.ts";
import { ClusterDns, clusterDnsObjects } from "./cluster-dns.ts";
import { ControlServer } from "./control.ts";
import { describeLab } from "./describe-lab.ts";
import { EndpointController } from "./endpoint-controller.ts";
import { LabError } from "./errors.ts";
import type { PodSpec } from "./kubelet.ts";
import {
  addControlRoutes,
  addNodeRoutes,
  makeGround,
  type Ground,
  type LabOptions,
} from "./ground.ts";
import type { Link } from "./link.ts";
import type { PartName } from "./mesh-parts.ts";
import type { Mesh, MeshPart } from "./mesh.ts";
import type { Netns } from "./netns.ts";
import { LabNode } from "./node.ts";
import type { LabPod } from "./pod.ts";
import { sandbox } from "./sandbox.ts";
import { writeLabState } from "./state.ts";

export type { LabOptions };

const CLIENT = { fieldManager: "lab" } as const;

export interface ServiceSpec {
  readonly name: string;
  readonly namespace?: string;
  readonly selector?: Readonly<Record<string, string>>;
  readonly ports: readonly ServicePort[];
  readonly headless?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly trafficDistribution?: string;
}

/** Owns everything it makes; disposing it leaves nothing but files in its directory. */
export class Lab implements AsyncDisposable {
  readonly dir: string;
  readonly manifestDir: string;
  readonly families: IpFamilies;
  readonly cluster: DirectoryCluster;
  readonly link: Link;
  /** The machine istiod runs on. */
  readonly control: Netns;
  readonly mesh: Mesh;
  readonly endpoints: EndpointController;
  readonly #options: LabOptions;
  readonly #nodes = new Map<string, LabNode>();
  readonly #owned: AsyncDisposableStack;
  #disposed: Promise<void> | null = null;

  private constructor(options: LabOptions, made: Ground, owned: AsyncDisposableStack) {
    this.#options = options;
    this.dir = made.dir;
    this.manifestDir = made.manifestDir;
    this.families = made.families;
    this.cluster = made.cluster;
    this.link = made.link;
    this.control = made.control;
    this.mesh = made.mesh;
    this.#owned = owned;
    this.endpoints = EndpointController.start(
      this.cluster,
      this.families,
      () => this.nodes,
      made.onError,
    );
  }

  /** @throws {LabError} `NO_SANDBOX` outside a sandbox, `MISSING_PROGRAM` without the Debian packages */
  static async create(options: LabOptions = {}): Promise<Lab> {
    const here = sandbox();
    if (here === null)
      throw new LabError("NO_SANDBOX", "A lab needs a sandbox: call enterSandbox() first");
    await using undo = new AsyncDisposableStack();
    const made = await makeGround(options, here.stateDir, undo);
    const lab = new Lab(options, made, undo.move());
    try {
      await lab.#populate();
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  get nodes(): readonly LabNode[] {
    return [...this.#nodes.values()];
  }

  get pods(): readonly LabPod[] {
    return this.nodes.flatMap((n) => n.pods);
  }

  /** @throws {LabError} `NOT_FOUND` */
  node(name: string): LabNode {
    const node = this.#nodes.get(name);
    if (node === undefined)
      throw new LabError(
        "NOT_FOUND",
        `No node ${name}; there are ${[...this.#nodes.keys()].join(", ")}`,
      );
    return node;
  }

  /** @throws {LabError} `NOT_FOUND` */
  pod(namespace: string, name: string): LabPod {
    const pod = this.nodes.map((n) => n.findPod(namespace, name)).find((p) => p !== undefined);
    if (pod === undefined) throw new LabError("NOT_FOUND", `No pod ${namespace}/${name}`);
    return pod;
  }

  /** Runs a pod on a node and makes its namespace if needed; resolves when it is ready. */
  async runPod(node: string, spec: PodSpec): Promise<LabPod> {
    await this.namespace(spec.namespace ?? "default");
    return this.node(node).pod(spec);
  }

  /** Makes the namespace, or merges these labels into it; a `null` label is removed. */
  async namespace(
    name: string,
    labels: Readonly<Record<string, string | null>> = {},
  ): Promise<void> {
    const old = await this.cluster.get(RESOURCES.namespaces, null, name);
    if (old !== null) {
      if (Object.keys(labels).length > 0)
        await this.cluster.patch(
          RESOURCES.namespaces,
          null,
          name,
          { metadata: { labels } },
          CLIENT,
        );
      return;
    }
    const kept = Object.entries(labels).filter((e): e is [string, string] => e[1] !== null);
    const object: Namespace = {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name,
        labels: { "kubernetes.io/metadata.name": name, ...Object.fromEntries(kept) },
      },
      status: { phase: "Active" },
    };
    await this.cluster.apply(RESOURCES.namespaces, object, CLIENT);
  }

  /** Makes a Service and waits until it has its addresses. */
  async service(spec: ServiceSpec): Promise<Service> {
    const { name, namespace = "default", selector, ports } = spec;
    await this.namespace(namespace);
    const object: Service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name,
        namespace,
        ...(spec.labels === undefined ? {} : { labels: spec.labels }),
        ...(spec.annotations === undefined ? {} : { annotations: spec.annotations }),
      },
      spec: {
        ...(selector === undefined ? {} : { selector }),
        ports,
        ...(spec.headless === true ? { clusterIP: "None" } : {}),
        ...(spec.trafficDistribution === undefined
          ? {}
          : { trafficDistribution: spec.trafficDistribution }),
      },
    };
    await this.cluster.apply(RESOURCES.services, object, CLIENT);
    await this.endpoints.settled(() => true, `addresses for service ${namespace}/${name}`, 5_000);
    const stored = await this.cluster.get(RESOURCES.services, namespace, name);
    if (stored === null)
      throw new LabError("NOT_FOUND", `Service ${namespace}/${name} was removed meanwhile`);
    return stored;
  }

  /** Waits until the service offers exactly this many ready addresses of pods, on every node. */
  async waitForEndpoints(
    namespace: string,
    service: string,
    count: number,
    timeoutMs = 5_000,
  ): Promise<readonly string[]> {
    const now = (): string[] => this.endpoints.readyAddresses(namespace, service);
    await this.endpoints.settled(
      () => now().length === count,
      `${count} ready endpoints of ${namespace}/${service}`,
      timeoutMs,
    );
    return now();
  }

  start(part: PartName, node?: string): Promise<MeshPart> {
    return this.mesh.start(part, node);
  }

  stop(part: PartName, node?: string): Promise<number | null> {
    return this.mesh.stop(part, node);
  }

  kill(part: PartName, node?: string): Promise<void> {
    return this.mesh.kill(part, node);
  }

  restart(part: PartName, node?: string): Promise<MeshPart> {
    return this.mesh.restart(part, node);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    await this.endpoints[Symbol.asyncDispose]();
    await this.mesh[Symbol.asyncDispose]();
    await Promise.all(this.nodes.map((n) => n[Symbol.asyncDispose]()));
    this.#nodes.clear();
    await this.#owned[Symbol.asyncDispose]();
  }

  async #populate(): Promise<void> {
    const nodes = this.#options.nodes ?? ["a", "b"];
    if (nodes.length > MAX_NODES)
      throw new LabError("CONFLICT", `At most ${MAX_NODES} nodes, not ${nodes.length}`);
    const made = await Promise.all(
      nodes.map((spec, index) => {
        const {
          name,
          region = "lab",
          zone = `zone-${name}`,
        } = typeof spec === "string" ? { name: spec } : spec;
        const nameServers = serviceFamilies(this.families).map((f) =>
          serviceAddress(DNS_SERVICE_HOST, f),
        );
        return LabNode.create(
          {
            name,
            region,
            zone,
            nameServers,
            number: index + 1,
            families: this.families,
            dir: join(this.dir, "nodes", name),
            binDir: join(this.dir, "bin"),
          },
          this.cluster,
          this.link,
        );
      }),
    );
    for (const node of made) {
      this.#nodes.set(node.name, node);
      this.mesh.addNode(node);
    }
    await Promise.all(made.map((node) => addNodeRoutes(node, made, this.families)));
    await addControlRoutes(this.control, made);
    await this.namespace("default");
    await this.#runDns();
    if (this.#options.control !== true) return;
    this.#owned.use(await ControlServer.start(this));
    await writeLabState(this.dir, describeLab(this));
  }

  async #runDns(): Promise<void> {
    const addresses = linkAddresses(CONTROL_HOST, this.families);
    this.#owned.use(await ClusterDns.start(this.control, this.cluster, addresses));
    const { service, slices } = clusterDnsObjects(this.families);
    await this.namespace(service.metadata.namespace ?? "");
    await this.cluster.apply(RESOURCES.services, service, CLIENT);
    for (const slice of slices) await this.cluster.apply(RESOURCES.endpointSlices, slice, CLIENT);
    await this.endpoints.settled(() => true, "the cluster DNS", 5_000);
  }
}
