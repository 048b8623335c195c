// What a kubelet writes: the Node object, and each pod's object through its life.
import { randomUUID } from "node:crypto";
import type { Cluster, OwnerReference } from "#lib/kube/cluster.ts";
import {
  RESOURCES,
  type Condition,
  type ContainerPort,
  type Node,
  type Pod,
} from "#lib/kube/objects.ts";

export const KUBELET = { fieldManager: "kubelet" } as const;

export interface PodSpec {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly serviceAccount?: string;
  readonly ports?: readonly ContainerPort[];
  readonly owner?: OwnerReference;
  readonly hostname?: string;
  readonly subdomain?: string;
  /** Started inside the pod once it has its addresses; without one the pod only waits. */
  readonly command?: readonly string[];
  /** `$(POD_IP)` in a value stands for the first address. */
  readonly env?: Readonly<Record<string, string>>;
  /** The pod is ready when this port accepts; without one, as soon as it runs. */
  readonly readyPort?: number;
  /** And when a GET of this path on that port is answered with 200. */
  readonly readyPath?: string;
  /** How long ADD is tried again when the chain refuses, as a kubelet would for ever. */
  readonly retryMs?: number;
}

export interface NodeSpec {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  readonly region: string;
  readonly zone: string;
}

export class Kubelet {
  readonly #cluster: Cluster;
  readonly #node: NodeSpec;

  constructor(cluster: Cluster, node: NodeSpec) {
    this.#cluster = cluster;
    this.#node = node;
  }

  async registerNode(): Promise<void> {
    const { name, addresses, podCidrs, region, zone } = this.#node;
    const node: Node = {
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name,
        labels: {
          "kubernetes.io/hostname": name,
          "kubernetes.io/os": "linux",
          "topology.kubernetes.io/region": region,
          "topology.kubernetes.io/zone": zone,
        },
      },
      spec: { ...(podCidrs[0] === undefined ? {} : { podCIDR: podCidrs[0] }), podCIDRs: podCidrs },
      status: {
        addresses: [
          ...addresses.map((address) => ({ type: "InternalIP", address })),
          { type: "Hostname", address: name },
        ],
        conditions: [condition("Ready", true)],
      },
    };
    await this.#cluster.apply(RESOURCES.nodes, node, KUBELET);
  }

  async deregisterNode(): Promise<void> {
    await this.#cluster.delete(RESOURCES.nodes, null, this.#node.name);
  }

  /** The pod is bound to this node and pending. Returns the object, with its UID. */
  async createPod(spec: PodSpec, hostNetwork = false): Promise<Pod> {
    const { name, namespace = "default", serviceAccount = "default" } = spec;
    const pod: Pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name,
        namespace,
        uid: randomUUID(),
        labels: { ...spec.labels },
        ...(spec.annotations === undefined ? {} : { annotations: spec.annotations }),
        ...(spec.owner === undefined ? {} : { ownerReferences: [spec.owner] }),
      },
      spec: {
        nodeName: this.#node.name,
        serviceAccountName: serviceAccount,
        restartPolicy: "Never",
        ...(hostNetwork ? { hostNetwork } : {}),
        ...(spec.hostname === undefined ? {} : { hostname: spec.hostname }),
        ...(spec.subdomain === undefined ? {} : { subdomain: spec.subdomain }),
        containers: [
          {
            name: "main",
            image: "lab/process",
            ...(spec.command === undefined ? {} : { command: spec.command }),
            ...(spec.ports === undefined ? {} : { ports: spec.ports }),
          },
        ],
      },
      status: { phase: "Pending", conditions: [condition("PodScheduled", true)] },
    };
    return this.#cluster.apply(RESOURCES.pods, pod, KUBELET);
  }

  async setRunning(pod: Pod, ips: readonly string[], ready: boolean): Promise<void> {
    await this.#status(pod, {
      phase: "Running",
      hostIP: this.#node.addresses[0],
      ...(ips[0] === undefined ? {} : { podIP: ips[0] }),
      podIPs: ips.map((ip) => ({ ip })),
      startTime: now(),
      conditions: conditions(ready),
    });
  }

  async setReady(pod: Pod, ready: boolean): Promise<void> {
    await this.#status(pod, { conditions: conditions(ready) });
  }

  async setFinished(pod: Pod, exitCode: number): Promise<void> {
    await this.#status(pod, {
      phase: exitCode === 0 ? "Succeeded" : "Failed",
      conditions: conditions(false),
    });
  }

  async setWaiting(pod: Pod, message: string): Promise<void> {
    await this.#status(pod, { reason: "FailedCreatePodSandBox", message });
  }

  /** Announces the end; endpoints stop offering the pod. */
  async setTerminating(pod: Pod): Promise<void> {
    const { namespace = null, name } = pod.metadata;
    await this.#cluster.patch(
      RESOURCES.pods,
      namespace,
      name,
      { metadata: { deletionTimestamp: now() } },
      KUBELET,
    );
  }

  async removePod(pod: Pod): Promise<void> {
    await this.#cluster.delete(RESOURCES.pods, pod.metadata.namespace ?? null, pod.metadata.name);
  }

  async #status(pod: Pod, status: Readonly<Record<string, unknown>>): Promise<void> {
    const { namespace = null, name } = pod.metadata;
    await this.#cluster.patch(
      RESOURCES.pods,
      namespace,
      name,
      { status },
      { ...KUBELET, subresource: "status" },
    );
  }
}

const now = (): string => new Date().toISOString().replace(/\.\d+Z$/, "Z");

function conditions(ready: boolean): Condition[] {
  return [
    condition("PodScheduled", true),
    condition("Initialized", true),
    condition("ContainersReady", ready),
    condition("Ready", ready),
  ];
}

function condition(type: string, holds: boolean): Condition {
  return { type, status: holds ? "True" : "False", lastTransitionTime: now() };
}
