// Every workload, found by uid, by address on a network, by host name, and by who it is on this node.
import type { Ip } from "../net/ip.ts";
import type { Workload } from "./workload.ts";

/** Who a pod says it is, before any address is known. */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

/** One workload, or several, best first: see `rank`. */
type Slot = Workload | Workload[];

export class WorkloadIndex {
  readonly #byUid = new Map<string, Workload>();
  readonly #byAddress = new Map<string, Map<Ip, Slot>>();
  readonly #byHostname = new Map<string, Workload[]>();
  readonly #onNode = new Map<string, Workload[]>();
  readonly #node: string | null;

  /** @param node  whose workloads `onNode` finds; null: those of all nodes */
  constructor(node: string | null) {
    this.#node = node;
  }

  get size(): number {
    return this.#byUid.size;
  }

  all(): MapIterator<Workload> {
    return this.#byUid.values();
  }

  byUid(uid: string): Workload | null {
    return this.#byUid.get(uid) ?? null;
  }

  /** Of several workloads the best: a pod with HBONE, a pod, HBONE, others; of equals the latest sent. */
  byAddress(network: string, ip: Ip): Workload | null {
    const slot = this.#byAddress.get(network)?.get(ip);
    if (slot === undefined) return null;
    return Array.isArray(slot) ? (slot[0] ?? null) : slot;
  }

  byHostname(namespace: string, hostname: string): Workload | null {
    return this.#byHostname.get(`${namespace}/${hostname}`)?.[0] ?? null;
  }

  onNode(pod: PodName): Workload | null {
    const named = this.#onNode.get(`${pod.namespace}/${pod.name}`);
    return named?.find((w) => w.serviceAccount === pod.serviceAccount) ?? null;
  }

  *allOnNode(): Generator<Workload> {
    for (const named of this.#onNode.values()) yield* named;
  }

  add(w: Workload): void {
    this.#byUid.set(w.uid, w);
    // The address of a host-network pod is its node's: it says nothing about who listens there.
    if (w.networkMode !== "HostNetwork") for (const ip of w.addresses) this.#addAddress(w, ip);
    if (w.hostname !== "") append(this.#byHostname, `${w.namespace}/${w.hostname}`, w);
    if (this.#isOnNode(w)) append(this.#onNode, `${w.namespace}/${w.name}`, w);
  }

  remove(w: Workload): void {
    this.#byUid.delete(w.uid);
    if (w.networkMode !== "HostNetwork") for (const ip of w.addresses) this.#removeAddress(w, ip);
    if (w.hostname !== "") drop(this.#byHostname, `${w.namespace}/${w.hostname}`, w);
    if (this.#isOnNode(w)) drop(this.#onNode, `${w.namespace}/${w.name}`, w);
  }

  #isOnNode(w: Workload): boolean {
    return this.#node === null || w.node === this.#node;
  }

  #addAddress(w: Workload, ip: Ip): void {
    let network = this.#byAddress.get(w.network);
    if (network === undefined) this.#byAddress.set(w.network, (network = new Map()));
    const slot = network.get(ip);
    if (slot === undefined) return void network.set(ip, w);
    const others = (Array.isArray(slot) ? slot : [slot]).filter((o) => o !== w);
    const at = others.findIndex((o) => rank(o) <= rank(w));
    network.set(ip, at < 0 ? [...others, w] : others.toSpliced(at, 0, w));
  }

  #removeAddress(w: Workload, ip: Ip): void {
    const network = this.#byAddress.get(w.network);
    const slot = network?.get(ip);
    if (network === undefined || slot === undefined) return;
    const left = (Array.isArray(slot) ? slot : [slot]).filter((o) => o !== w);
    const [only] = left;
    if (only === undefined) network.delete(ip);
    else network.set(ip, left.length === 1 ? only : left);
    if (network.size === 0) this.#byAddress.delete(w.network);
  }
}

function rank(w: Workload): number {
  return (w.uid.includes("//Pod/") ? 2 : 0) + (w.protocol === "HBONE" ? 1 : 0);
}

function append(index: Map<string, Workload[]>, key: string, w: Workload): void {
  const list = index.get(key);
  if (list === undefined) index.set(key, [w]);
  else list.push(w);
}

function drop(index: Map<string, Workload[]>, key: string, w: Workload): void {
  const left = index.get(key)?.filter((o) => o !== w) ?? [];
  if (left.length === 0) index.delete(key);
  else index.set(key, left);
}
