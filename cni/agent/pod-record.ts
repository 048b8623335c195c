// Everything the agent holds for one pod. One reconcile at a time touches it (reconciler.ts), except
// that a plugin event may replace the namespace between two.
import type { Ip } from "#lib/net/ip.ts";
import type { PodNetns } from "./pod-netns.ts";
import type { MeshedPod } from "./zds-connection.ts";

/** What is inside the pod's namespace, as far as the agent has written or looked. */
export type RulesState = "unknown" | "in" | "out";

export class PodRecord implements Disposable {
  readonly uid: string;
  #netns: PodNetns | null = null;
  rules: RulesState = "unknown";
  /** Look inside at the next chance, even if everything seems right. */
  isAuditDue = true;
  /** Set once the rules are in: the pod is part of every ztunnel's snapshot. */
  meshed: MeshedPod | null = null;
  /** A ztunnel was told to keep serving it without a namespace from us. */
  isKept = false;
  /** An ADD waits for this pod: give a ztunnel that is just starting a moment. */
  isAwaited = false;
  /** Addresses from the plugin's event, used until the cluster shows some. */
  eventIps: readonly Ip[] = [];
  /** Addresses put into the probe sets. */
  probeIps: readonly Ip[] = [];
  lastError: string | null = null;
  retry: NodeJS.Timeout | null = null;
  attempts = 0;
  /** The run that has not begun; later requests join it. */
  queued: Promise<void> | null = null;
  /** The run under way. */
  running: Promise<void> = Promise.resolve();
  #isDisposed = false;

  constructor(uid: string) {
    this.uid = uid;
  }

  get netns(): PodNetns | null {
    return this.#netns;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * Takes `netns`. The same namespace again keeps the old handle; another one closes it and forgets
   * what was known about its inside. Returns whether it is another one.
   */
  takeNetns(netns: PodNetns): boolean {
    if (this.#isDisposed || this.#netns?.id === netns.id) {
      netns[Symbol.dispose]();
      return false;
    }
    this.dropNetns();
    this.#netns = netns;
    return true;
  }

  dropNetns(): void {
    this.#netns?.[Symbol.dispose]();
    this.#netns = null;
    this.rules = "unknown";
    this.isAuditDue = true;
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    this.dropNetns();
  }
}
