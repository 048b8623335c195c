// What the agent knows of the cluster: the pods of its node and every namespace, kept current by two
// watches. Level-triggered: a change only says which pods to look at again.
import { systemClock, type Clock } from "#lib/base/clock.ts";
import type { Cluster, KubeObject, Resource, WatchEvent, WatchHandler } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace, type Pod } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { isPodOf } from "../enrolment/wish.ts";

/** Between two looks for a pod that the watch does not show yet. */
const LOOKUP_PAUSE_MS = 10;
/** A runtime hears of a pod as soon as we do: the watch nearly always shows it by then. */
const ASK_AFTER_MS = 100;

export interface ViewHandler {
  /** A pod appeared, changed, or its namespace did. */
  onPod(uid: string, kind: "add" | "update"): void;
  onPodGone(pod: Pod): void;
}

export class ClusterView {
  readonly #cluster: Cluster;
  readonly #nodeName: string;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #pods = new Map<string, Pod>();
  readonly #uidByName = new Map<string, string>();
  readonly #namespaces = new Map<string, Namespace>();

  constructor(cluster: Cluster, nodeName: string, log: Logger, clock: Clock = systemClock) {
    this.#cluster = cluster;
    this.#nodeName = nodeName;
    this.#log = log;
    this.#clock = clock;
  }

  /**
   * Watches until `signal` aborts.
   * @param onSynced  called once both lists are complete; `handler` is called for changes from then on
   */
  async run(handler: ViewHandler, onSynced: () => void, signal: AbortSignal): Promise<void> {
    let isSynced = false;
    let left = 2;
    const synced = (): void => {
      if (--left > 0) return;
      isSynced = true;
      onSynced();
    };
    const loud: ViewHandler = {
      onPod: (uid, kind) => isSynced && handler.onPod(uid, kind),
      onPodGone: (pod) => isSynced && handler.onPodGone(pod),
    };
    await Promise.all([
      this.#watch(RESOURCES.pods, (e) => this.#onPod(e, loud), synced, signal, {
        fieldSelector: `spec.nodeName=${this.#nodeName}`,
      }),
      this.#watch(RESOURCES.namespaces, (e) => this.#onNamespace(e, loud), synced, signal, {}),
    ]);
  }

  pod(uid: string): Pod | null {
    return this.#pods.get(uid) ?? null;
  }

  pods(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  namespace(name: string): Namespace | null {
    return this.#namespaces.get(name) ?? null;
  }

  /**
   * The pod of an event. The watch may lag behind the runtime, so the cluster itself is asked too.
   * @param uid  "" when the runtime did not tell
   * @returns    `null` when the cluster shows no such pod within `timeoutMs`
   */
  async lookUp(
    namespace: string,
    name: string,
    uid: string,
    timeoutMs: number,
  ): Promise<Pod | null> {
    const start = this.#clock.now();
    // without a UID only the cluster can tell a pod from its predecessor of the same name
    let askAt = uid === "" ? 0 : ASK_AFTER_MS;
    for (;;) {
      const known = this.pod(this.#uidByName.get(`${namespace}/${name}`) ?? "");
      const isKnown = known !== null && isPodOf(known, uid) && this.#namespaces.has(namespace);
      if (isKnown && uid !== "") return known;
      const waited = this.#clock.now() - start;
      if (waited >= askAt) {
        const pod = await this.#ask(namespace, name, uid);
        if (pod !== null) return pod;
        askAt = Math.max(ASK_AFTER_MS, waited * 2); // more and more rarely
      }
      if (waited >= timeoutMs) return null;
      await this.#clock.sleep(LOOKUP_PAUSE_MS);
    }
  }

  async #ask(namespace: string, name: string, uid: string): Promise<Pod | null> {
    try {
      const [pod, owner] = await Promise.all([
        this.#cluster.get(RESOURCES.pods, namespace, name),
        this.#cluster.get(RESOURCES.namespaces, null, namespace),
      ]);
      if (pod === null || owner === null || (uid !== "" && !isPodOf(pod, uid))) return null;
      // a read may be older than what the watch has shown meanwhile
      const seen = this.pod(pod.metadata.uid ?? "");
      if (seen === null || !isNewer(seen, pod)) this.#remember(pod);
      if (!this.#namespaces.has(namespace)) this.#namespaces.set(namespace, owner);
      return this.pod(pod.metadata.uid ?? "") ?? pod;
    } catch (error) {
      this.#log.warn({ namespace, pod: name, error }, "cannot ask the cluster for a pod");
      return null;
    }
  }

  #watch<T extends KubeObject>(
    resource: Resource<T>,
    onEvent: (event: WatchEvent<T>) => void,
    onSynced: () => void,
    signal: AbortSignal,
    options: { readonly fieldSelector?: string },
  ): Promise<void> {
    const handler: WatchHandler<T> = {
      onEvents: (events) => events.forEach(onEvent),
      onSynced,
      onError: (error) =>
        this.#log.warn({ kind: resource.kind, error }, "the watch reports a fault"),
    };
    return this.#cluster.watch(resource, handler, { ...options, signal });
  }

  #onPod(event: WatchEvent<Pod>, handler: ViewHandler): void {
    const { uid } = event.object.metadata;
    if (uid === undefined) return; // no API server stores such a pod
    if (event.type === "deleted") {
      if (!this.#pods.delete(uid)) return;
      const key = keyOf(event.object);
      if (this.#uidByName.get(key) === uid) this.#uidByName.delete(key);
      handler.onPodGone(event.object);
      return;
    }
    const replaced = this.#pods.get(this.#uidByName.get(keyOf(event.object)) ?? "");
    this.#remember(event.object);
    // one name, another UID: a watch may show that as one change
    if (replaced !== undefined && replaced.metadata.uid !== uid) {
      this.#pods.delete(replaced.metadata.uid ?? "");
      handler.onPodGone(replaced);
    }
    handler.onPod(uid, event.type === "added" ? "add" : "update");
  }

  #onNamespace(event: WatchEvent<Namespace>, handler: ViewHandler): void {
    const { name } = event.object.metadata;
    if (event.type === "deleted") this.#namespaces.delete(name);
    else this.#namespaces.set(name, event.object);
    for (const pod of this.#pods.values())
      if (pod.metadata.namespace === name && pod.metadata.uid !== undefined)
        handler.onPod(pod.metadata.uid, "update");
  }

  #remember(pod: Pod): void {
    const uid = pod.metadata.uid ?? "";
    this.#pods.set(uid, pod);
    this.#uidByName.set(keyOf(pod), uid);
  }
}

function keyOf(pod: Pod): string {
  return `${pod.metadata.namespace ?? "default"}/${pod.metadata.name}`;
}

function isNewer(a: Pod, b: Pod): boolean {
  return Number(a.metadata.resourceVersion ?? 0) > Number(b.metadata.resourceVersion ?? 0);
}
