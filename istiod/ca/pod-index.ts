// Pods by name, and by who runs where: what the node authorizer and on-demand streams look up.
import type { WatchEvent } from "#lib/kube/cluster.ts";
import type { Pod } from "#lib/kube/objects.ts";

export interface PodRecord {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly serviceAccount: string;
  readonly node: string;
}

/** Holds pods that have a node and have not failed. A succeeded pod still counts, as in Istio. */
export class PodIndex {
  readonly #pods = new Map<string, PodRecord>();
  /** `node/namespace/serviceAccount` → how many pods. */
  readonly #accounts = new Map<string, number>();
  /** node → pod keys. */
  readonly #nodes = new Map<string, Set<string>>();

  update(events: readonly WatchEvent<Pod>[]): void {
    for (const { type, object } of events) {
      const record = type === "deleted" ? null : recordOf(object);
      const key = podKey(object.metadata.namespace ?? "default", object.metadata.name);
      const before = this.#pods.get(key);
      if (before !== undefined) this.#remove(key, before);
      if (record !== null) this.#add(key, record);
    }
  }

  pod(namespace: string, name: string): PodRecord | null {
    return this.#pods.get(podKey(namespace, name)) ?? null;
  }

  /** True when some pod of this account is on the node. */
  runsOn(node: string, namespace: string, serviceAccount: string): boolean {
    return this.#accounts.has(accountKey(node, namespace, serviceAccount));
  }

  onNode(node: string): PodRecord[] {
    return [...(this.#nodes.get(node) ?? [])]
      .map((key) => this.#pods.get(key))
      .filter((pod) => pod !== undefined);
  }

  get size(): number {
    return this.#pods.size;
  }

  #add(key: string, pod: PodRecord): void {
    this.#pods.set(key, pod);
    const account = accountKey(pod.node, pod.namespace, pod.serviceAccount);
    this.#accounts.set(account, (this.#accounts.get(account) ?? 0) + 1);
    const onNode = this.#nodes.get(pod.node) ?? new Set();
    onNode.add(key);
    this.#nodes.set(pod.node, onNode);
  }

  #remove(key: string, pod: PodRecord): void {
    this.#pods.delete(key);
    const account = accountKey(pod.node, pod.namespace, pod.serviceAccount);
    const left = (this.#accounts.get(account) ?? 1) - 1;
    if (left > 0) this.#accounts.set(account, left);
    else this.#accounts.delete(account);
    const onNode = this.#nodes.get(pod.node);
    onNode?.delete(key);
    if (onNode?.size === 0) this.#nodes.delete(pod.node);
  }
}

function recordOf(pod: Pod): PodRecord | null {
  const node = pod.spec?.nodeName ?? "";
  if (node === "" || pod.status?.phase === "Failed") return null;
  return {
    namespace: pod.metadata.namespace ?? "default",
    name: pod.metadata.name,
    uid: pod.metadata.uid ?? "",
    // The API server fills this in; a manifest may leave it to the default.
    serviceAccount: pod.spec?.serviceAccountName || "default",
    node,
  };
}

function podKey(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

function accountKey(node: string, namespace: string, serviceAccount: string): string {
  return `${node}/${namespace}/${serviceAccount}`;
}
