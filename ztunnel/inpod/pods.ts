// The pods this proxy serves. Each owns its namespace descriptor, its listeners (in a worker) and its
// DNS server, and is started, retried and stopped on its own: one bad pod holds up no other.
import type { Clock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import { asNetnsFd, closeFd, netnsId, type NetnsFd } from "#lib/sys/netns.ts";
import type { PodInfo } from "../proxy/messages.ts";

export interface PodsOptions {
  /** Opens the pod's listeners. @returns null, or why it could not */
  readonly open: (pod: PodInfo, netns: NetnsFd) => Promise<string | null>;
  /** Closes everything of the pod; `netns` is not used once this has resolved. Also after a failed `open`. */
  readonly close: (uid: string) => Promise<void>;
  /** Starts the pod's DNS server, or returns null when DNS is not captured. @throws when it cannot */
  readonly serveDns: (pod: PodInfo, netns: NetnsFd) => PodDnsHandle | null;
  /** A pod became up, pending, or went. */
  readonly onChange: () => void;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface PodDnsHandle extends Disposable {
  drain(): void;
}

/**
 * `starting` ⇒ `up` | `pending`; `pending` ⇒ `starting` (retry); any ⇒ `stopped`.
 * A pod that is up stays up until it is removed.
 */
type PodState = "starting" | "up" | "pending" | "stopped";

interface Pod {
  readonly info: PodInfo;
  readonly netns: NetnsFd;
  readonly netnsId: string;
  state: PodState;
  error: string | null;
  dns: PodDnsHandle | null;
  /** What is done with this pod, one thing after the other. Never rejects. */
  work: Promise<void>;
}

export interface PodView {
  readonly uid: string;
  readonly state: "Up" | "Pending";
  readonly info: PodInfo;
  readonly error: string | null;
}

/** The agent waits 5 s for an acknowledgement; a slower start is refused and tried again. */
const START_TIMEOUT_MS = 4_000;
/** How long an acknowledgement of a removal may wait for the worker. */
const STOP_WAIT_MS = 2_000;
const RETRY_MS = 5_000;
const REMOVED = "The pod was removed";

/** Owns every pod. */
export class Pods {
  readonly #options: PodsOptions;
  readonly #pods = new Map<string, Pod>();
  started = 0;
  stopped = 0;

  constructor(options: PodsOptions) {
    this.#options = options;
  }

  /**
   * Starts the pod, or finds it running in the same namespace. A pod of the same uid in another
   * namespace is torn down first.
   * @param netnsFd  taken
   * @returns null, or why it is not up; it is then retried until removed
   */
  async add(info: PodInfo, netnsFd: number): Promise<string | null> {
    const netns = asNetnsFd(netnsFd);
    const id = netnsId(netns);
    const known = this.#pods.get(info.uid);
    if (known !== undefined && known.netnsId === id) {
      closeFd(netns);
      return known.state === "up" ? null : this.#start(known);
    }
    const before = known === undefined ? Promise.resolve() : this.#stop(known);
    const pod: Pod = {
      info,
      netns,
      netnsId: id,
      state: "starting",
      error: null,
      dns: null,
      work: before,
    };
    this.#pods.set(info.uid, pod);
    return this.#start(pod);
  }

  /** Stops the pod at once. Resolves when its ports are closed, or after 2 s at the latest. */
  async remove(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return;
    const end = new AbortController();
    await Promise.race([this.#stop(pod), this.#options.clock.sleep(STOP_WAIT_MS, end.signal)]);
    end.abort();
  }

  /** Stops every pod that is not wanted any more. */
  keepOnly(wanted: ReadonlySet<string>): void {
    for (const [uid, pod] of this.#pods) if (!wanted.has(uid)) void this.#stop(pod);
  }

  /** Forgets pods that are not up: a new agent connection announces them again. */
  dropPending(): void {
    for (const pod of this.#pods.values()) if (pod.state === "pending") void this.#stop(pod);
  }

  /** Tries every pending pod again, every 5 s, until `signal` aborts. */
  async retryLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#options.clock.sleep(RETRY_MS, signal);
      if (signal.aborted) return;
      for (const pod of this.#pods.values()) if (pod.state === "pending") void this.#start(pod);
    }
  }

  /** DNS servers take no further queries; the workers drain their own listeners. */
  drainDns(): void {
    for (const pod of this.#pods.values()) pod.dns?.drain();
  }

  /** Stops all pods and waits for it. */
  async stopAll(): Promise<void> {
    await Promise.all([...this.#pods.values()].map((pod) => this.#stop(pod)));
  }

  views(): PodView[] {
    return [...this.#pods.values()].map((pod) => ({
      uid: pod.info.uid,
      state: pod.state === "up" ? "Up" : "Pending",
      info: pod.info,
      error: pod.error,
    }));
  }

  get active(): number {
    return this.#count((state) => state === "up");
  }

  get pending(): number {
    return this.#count((state) => state !== "up");
  }

  #count(is: (state: PodState) => boolean): number {
    let count = 0;
    for (const pod of this.#pods.values()) if (is(pod.state)) count++;
    return count;
  }

  /** Resolves with the outcome; what has to be cleaned up after a failure goes on behind it. */
  #start(pod: Pod): Promise<string | null> {
    if (pod.state === "pending") pod.state = "starting";
    const outcome = Promise.withResolvers<string | null>();
    pod.work = pod.work.then(() => this.#bringUp(pod, outcome.resolve));
    this.#options.onChange();
    return outcome.promise;
  }

  #stop(pod: Pod): Promise<void> {
    if (this.#pods.get(pod.info.uid) === pod) this.#pods.delete(pod.info.uid);
    const wasUp = pod.state === "up";
    const isFirst = pod.state !== "stopped";
    pod.state = "stopped";
    if (isFirst) pod.work = pod.work.then(() => this.#tearDown(pod, wasUp));
    this.#options.onChange();
    return pod.work;
  }

  /** Never rejects. */
  async #bringUp(pod: Pod, report: (error: string | null) => void): Promise<void> {
    if (pod.state === "up") return report(null);
    if (pod.state === "stopped") return report(REMOVED);
    const error = await this.#tryOpen(pod);
    const { log, onChange } = this.#options;
    const { uid, name, namespace } = pod.info;
    // The state may have changed while the worker was busy; tearing down then follows by itself.
    if (this.#isStopped(pod)) return report(REMOVED);
    pod.error = error;
    pod.state = error === null ? "up" : "pending";
    if (error === null) this.started++;
    if (error === null) log.info({ uid, name, namespace }, "pod added");
    else log.warn({ uid, name, namespace, error }, "pod cannot be served, will retry");
    report(error);
    onChange();
    if (error !== null) await this.#close(pod);
  }

  async #tryOpen(pod: Pod): Promise<string | null> {
    const { open, serveDns, clock } = this.#options;
    try {
      pod.dns = serveDns(pod.info, pod.netns);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    const end = new AbortController();
    const late = clock
      .sleep(START_TIMEOUT_MS, end.signal)
      .then(() => `Listeners were not open after ${START_TIMEOUT_MS} ms`);
    const result = await Promise.race([open(pod.info, pod.netns), late]);
    end.abort();
    return result;
  }

  async #close(pod: Pod): Promise<void> {
    pod.dns?.[Symbol.dispose]();
    pod.dns = null;
    await this.#options.close(pod.info.uid);
  }

  async #tearDown(pod: Pod, wasUp: boolean): Promise<void> {
    await this.#close(pod);
    closeFd(pod.netns);
    if (wasUp) this.stopped++;
    const { uid, name, namespace } = pod.info;
    this.#options.log.info({ uid, name, namespace }, "pod removed");
  }

  /** Apart, so that the compiler does not reason about a state others change. */
  #isStopped(pod: Pod): boolean {
    return pod.state === "stopped";
  }
}
