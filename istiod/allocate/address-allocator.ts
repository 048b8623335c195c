// Gives ServiceEntries without addresses some of their own, in `status.addresses`, while it leads.
// Source: istio pilot/pkg/controllers/ipallocate; who gets what is decided in allocation.ts.
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster, WatchEvent } from "#lib/kube/cluster.ts";
import { objectName, RESOURCES, type ServiceEntry as Manifest } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Cidr } from "#lib/net/cidr.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { LeaderTask } from "../leader-task.ts";
import { patchStatus } from "../status/patch-status.ts";
import type { ServiceEntry } from "../translate/objects.ts";
import { serviceEntry } from "../translate/reduce.ts";
import { Allocation, type Assigned, sameAssigned } from "./allocation.ts";

export interface AddressAllocatorOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly prefixes: { readonly v4: Cidr; readonly v6: Cidr };
  /** Entries of other namespaces are left as they are (`discoverySelectors`). */
  isSelected(namespace: string): boolean;
  readonly log: Logger;
  readonly clock: Clock;
}

const FIELD_MANAGER = "istio-ip-autoallocate";

export class AddressAllocator implements LeaderTask {
  readonly lock = "istio-ip-autoallocate";
  readonly lockKind = "configMap";
  readonly #options: AddressAllocatorOptions;
  readonly #queue: WorkQueue<string>;
  readonly #entries = new Map<string, ServiceEntry>();
  #allocation: Allocation;
  #wanted: ReadonlyMap<string, readonly Assigned[]> = new Map();
  /** Nothing is given out before everything that is in use is known. */
  #isSynced = false;
  #planning: NodeJS.Immediate | null = null;
  #unserved = "";
  #isFailing = false;

  constructor(options: AddressAllocatorOptions) {
    this.#options = options;
    this.#allocation = new Allocation(options.prefixes);
    this.#queue = new WorkQueue({
      handle: (key) => this.#write(key),
      onGivenUp: (key, error) => this.#giveUp(key, error),
      clock: options.clock,
    });
  }

  /** Reads all entries, then allocates until `signal` ends the leadership. One term at a time. */
  async lead(signal: AbortSignal): Promise<void> {
    this.#entries.clear();
    this.#allocation = new Allocation(this.#options.prefixes);
    this.#isSynced = false;
    const onSynced = (): void => {
      this.#isSynced = true;
      this.reconsider();
    };
    const handler = {
      onEvents: (events: readonly WatchEvent<Manifest>[]) => this.#on(events),
      onSynced,
      onError: (error: Error) => this.#options.log.warn({ error }, "cannot read ServiceEntries"),
    };
    await Promise.all([
      this.#queue.run([], signal),
      this.#options.cluster.watch(RESOURCES.serviceEntries, handler, { signal }),
    ]);
    if (this.#planning !== null) clearImmediate(this.#planning);
    this.#planning = null;
    this.#isSynced = false;
  }

  /** `isSelected` may answer otherwise now. */
  reconsider(): void {
    if (!this.#isSynced) return;
    this.#planning ??= setImmediate(() => {
      this.#planning = null;
      this.#plan();
    });
  }

  #on(events: readonly WatchEvent<Manifest>[]): void {
    for (const { type, object } of events) {
      const key = objectName(object);
      const old = this.#entries.get(key);
      const entry = type === "deleted" ? undefined : serviceEntry(object);
      if (entry === undefined) this.#entries.delete(key);
      else this.#entries.set(key, entry);
      if (!this.#isOwnWrite(old, entry)) this.reconsider();
    }
  }

  /** The decided addresses arriving in the status change no decision: ten thousand of them are no work. */
  #isOwnWrite(old: ServiceEntry | undefined, entry: ServiceEntry | undefined): boolean {
    if (old === undefined || entry === undefined) return false;
    const hasDecided = sameAssigned(entry.allocated, this.#allocation.decided(entry.key) ?? []);
    return hasDecided && isDeepStrictEqual({ ...old, allocated: [] }, { ...entry, allocated: [] });
  }

  #plan(): void {
    const { isSelected, log } = this.#options;
    const isOurs = ({ namespace }: ServiceEntry): boolean => isSelected(namespace);
    const { wanted, unserved } = this.#allocation.decide(this.#entries.values(), isOurs);
    this.#wanted = wanted;
    for (const key of wanted.keys()) this.#queue.add(key);
    const shown = [...new Set(unserved)].join(", ");
    if (shown !== "" && shown !== this.#unserved)
      log.warn({ hosts: shown.slice(0, 1_000) }, "no address left to allocate");
    this.#unserved = shown;
  }

  async #write(key: string): Promise<void> {
    const { cluster } = this.#options;
    const wanted = this.#wanted.get(key);
    const decidedFor = this.#entries.get(key);
    if (wanted === undefined || decidedFor === undefined) return;
    const { namespace, name } = decidedFor;
    const live = await cluster.get(RESOURCES.serviceEntries, namespace, name);
    if (live === null) return;
    const entry = serviceEntry(live);
    // Another entry than the one decided about: its event is on the way, and with it a new decision.
    if (!isDeepStrictEqual({ ...entry, allocated: [] }, { ...decidedFor, allocated: [] })) return;
    if (sameAssigned(entry.allocated, wanted)) return;
    const addresses =
      wanted.length === 0 ? null : wanted.map(({ host, ip }) => ({ value: ip, host }));
    const { serviceEntries } = RESOURCES;
    const isThere = await patchStatus(cluster, serviceEntries, live, { addresses }, FIELD_MANAGER);
    if (!isThere) return;
    this.#isFailing = false;
    this.#options.log.debug({ entry: key, addresses: wanted.length }, "addresses allocated");
  }

  #giveUp(key: string, error: unknown): void {
    const level = this.#isFailing ? "debug" : "warn";
    this.#options.log[level]({ entry: key, error }, "allocated addresses cannot be written");
    this.#isFailing = true;
  }
}
