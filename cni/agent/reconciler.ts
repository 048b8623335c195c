// The one loop of the agent. For each pod: what its labels want, against what is really there (rules
// inside the namespace, the ztunnel's acknowledgement, probe sets, annotation), and the steps between
// them. Events, the plugin, the audit and a new ztunnel all only say "look at this pod again".
//
//   enrol:   namespace → rules ∥ probe sets → ztunnel acknowledges → annotation `enabled` (last: it
//            tells istiod to send HBONE)
//   remove:  probe sets → rules → ztunnel → annotation gone
//
// Every step is idempotent; a failed one is tried again with growing delays. A pod is served by one
// run at a time, a few pods run side by side, and none waits for another's failure.
import { Backoff } from "#lib/base/backoff.ts";
import type { Namespace, Pod } from "#lib/kube/objects.ts";
import type { Ip } from "#lib/net/ip.ts";
import type { Logger } from "#lib/obs/log.ts";
import { wishFor, type EnrolmentRules, type Wish } from "../enrolment/wish.ts";
import type { Annotate } from "./annotator.ts";
import { AgentError, explain } from "./errors.ts";
import type { AgentMetrics } from "./metrics.ts";
import type { NetnsFinder } from "./netns-finder.ts";
import { podIps, redirectionOf, ruleOptionsFor, type NodeRuleDefaults } from "./pod-knobs.ts";
import type { PodNetns } from "./pod-netns.ts";
import { podState, type PodCounts, type PodState } from "./pod-state.ts";
import { PodRecord } from "./pod-record.ts";
import type { PodRules } from "./pod-rules.ts";
import { Semaphore } from "./semaphore.ts";
import type { MeshedPod, SnapshotEntry, ZdsOutcome } from "./zds-connection.ts";

export interface PodSource {
  pod(uid: string): Pod | null;
  pods(): readonly Pod[];
  namespace(name: string): Namespace | null;
}

export interface ProbeSets {
  put(entry: { readonly ip: Ip; readonly uid: string }): Promise<void>;
  drop(entry: { readonly ip: Ip; readonly uid: string }): Promise<void>;
}

export interface Proxies {
  hasAcked(uid: string, netnsId: string): boolean;
  add(pod: MeshedPod, netns: PodNetns): Promise<ZdsOutcome | null>;
  del(uid: string): Promise<void>;
  untilConnected(ms: number): Promise<void>;
}

export interface ReconcilerOptions {
  readonly source: PodSource;
  readonly enrolment: EnrolmentRules;
  readonly defaults: NodeRuleDefaults;
  readonly rules: PodRules;
  readonly probes: ProbeSets;
  readonly proxies: Proxies;
  readonly finder: NetnsFinder;
  readonly annotate: Annotate;
  readonly forget: (uid: string) => void;
  readonly log: Logger;
  readonly metrics: AgentMetrics;
  /** How many pods are worked on at once. */
  readonly width?: number;
  readonly retry?: { readonly startMs: number; readonly maxMs: number };
}

/** An ADD may wait this long for a ztunnel that is just starting; the plugin gives up at 5 s. */
const PROXY_GRACE_MS = 2_500;

export class Reconciler implements AsyncDisposable {
  readonly #o: ReconcilerOptions;
  readonly #records = new Map<string, PodRecord>();
  readonly #gate: Semaphore;
  #isStopped = false;
  #isSettling = false;

  constructor(options: ReconcilerOptions) {
    this.#o = options;
    this.#gate = new Semaphore(options.width ?? 8);
  }

  /** Looks at a pod again soon; failures are logged and retried. */
  request(uid: string): void {
    this.converge(uid).catch(() => undefined); // logged where it failed
  }

  requestAll(): void {
    for (const pod of this.#o.source.pods()) if (pod.metadata.uid) this.request(pod.metadata.uid);
    for (const uid of this.#records.keys()) this.request(uid);
  }

  /**
   * Looks at every pod once and waits: at start, before ztunnels connect. Failures are retried later.
   * Rules and probe sets are brought in place; there is no ztunnel to hand over to yet.
   */
  async settle(): Promise<void> {
    this.#isSettling = true;
    const uids = this.#o.source.pods().map((pod) => pod.metadata.uid ?? "");
    await Promise.allSettled(uids.map((uid) => this.converge(uid)));
    this.#isSettling = false;
  }

  /** Like `requestAll`, and looks inside every namespace. */
  audit(): void {
    for (const record of this.#records.values()) record.isAuditDue = true;
    this.requestAll();
  }

  /** A run that begins after this call. @throws {AgentError} what kept the pod from its wanted state */
  converge(uid: string): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    const record = this.#recordOf(uid);
    record.queued ??= record.running.then(async () => {
      using _turn = await this.#gate.enter();
      record.queued = null;
      const run = this.#run(record);
      record.running = run.catch(() => undefined);
      await run;
    });
    return record.queued;
  }

  /** Takes the namespace the runtime has just made for a pod. */
  takeSandbox(uid: string, netns: PodNetns, ips: readonly Ip[]): void {
    const record = this.#recordOf(uid);
    record.eventIps = ips;
    record.isAwaited = true;
    if (record.takeNetns(netns)) record.isAuditDue = false; // fresh: nothing to look for
  }

  /** Pods whose rules are in, for a ztunnel that connects. */
  *snapshot(): Generator<SnapshotEntry> {
    // a Map may change while it is walked: each record is looked at when its turn comes
    for (const [uid, record] of this.#records) {
      const pod = this.#o.source.pod(uid);
      if (record.meshed !== null) yield { pod: record.meshed, netns: record.netns };
      // enrolled by an earlier agent, namespace not found (yet): whoever serves it goes on
      else if (
        pod !== null &&
        redirectionOf(pod) === "enabled" &&
        this.wishOf(pod).kind === "enrol"
      ) {
        record.isKept = true;
        yield { pod: meshedPod(uid, pod), netns: null };
      }
    }
  }

  wishOf(pod: Pod): Wish {
    const namespace = this.#o.source.namespace(pod.metadata.namespace ?? "default");
    return wishFor(pod, namespace, this.#o.enrolment);
  }

  counts(): PodCounts {
    const counts: Record<PodState, number> = { "in the mesh": 0, outside: 0, "not as wanted": 0 };
    for (const pod of this.#o.source.pods()) {
      const record = this.#records.get(pod.metadata.uid ?? "");
      counts[record === undefined ? "not as wanted" : this.#stateOf(record, pod)]++;
    }
    return counts;
  }

  /** For `/debug/pods`. */
  status(): readonly ({ readonly uid: string } & Record<string, unknown>)[] {
    return [...this.#records.values()].map((record) => {
      const pod = this.#o.source.pod(record.uid);
      return {
        uid: record.uid,
        pod: pod === null ? null : nameOf(pod),
        state: pod === null ? null : this.#stateOf(record, pod),
        wish: pod === null ? null : this.wishOf(pod),
        annotation: pod === null ? null : redirectionOf(pod),
        netns: record.netns === null ? null : { id: record.netns.id, path: record.netns.path },
        rules: record.rules,
        acknowledged: this.#isAcked(record),
        probeIps: record.probeIps,
        lastError: record.lastError,
      };
    });
  }

  /** Faults of a pod in `netns` against its wish, for CHECK. Changes nothing. */
  async faults(pod: Pod, netns: PodNetns): Promise<readonly string[]> {
    if (this.wishOf(pod).kind !== "enrol")
      return (await this.#o.rules.has(netns)) ? ["rules are inside a pod outside the mesh"] : [];
    const options = ruleOptionsFor(pod, this.#o.defaults);
    const faults = [...(await this.#o.rules.faults(netns, options))];
    if (!this.#o.proxies.hasAcked(pod.metadata.uid ?? "", netns.id))
      faults.push("no ztunnel serves the pod");
    return faults;
  }

  /** Waits for the runs under way; what is inside the pods stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    const records = [...this.#records.values()];
    await Promise.allSettled(records.map((r) => r.queued ?? r.running));
    for (const record of records) record[Symbol.dispose]();
    this.#records.clear();
  }

  async #run(record: PodRecord): Promise<void> {
    const { uid } = record;
    if (this.#isStopped) return;
    if (record.retry !== null) clearTimeout(record.retry);
    record.retry = null;
    const pod = this.#o.source.pod(uid);
    try {
      if (pod === null) await this.#forget(record);
      else await this.#reconcile(record, pod);
      record.attempts = 0;
      record.lastError = null;
    } catch (error) {
      this.#onFailure(record, pod, error);
      throw error;
    } finally {
      record.isAwaited = false;
    }
  }

  async #reconcile(record: PodRecord, pod: Pod): Promise<void> {
    const wish = this.wishOf(pod);
    switch (wish.kind) {
      case "enrol":
        return this.#enrol(record, pod);
      case "leave out":
        return this.#remove(record, pod);
      case "ended":
        return this.#release(record, pod);
      default:
        return wish satisfies never;
    }
  }

  async #enrol(record: PodRecord, pod: Pod): Promise<void> {
    const ips = addressesOf(record, pod);
    // a pod without address and sandbox is not started yet: its event will come
    if (ips.length === 0 && record.netns === null) return;
    // another address means another sandbox: what was known about the inside is about the old one
    const isMoved = ips.length > 0 && !ips.some((ip) => record.probeIps.includes(ip));
    if (record.rules === "in" && isMoved) record.isAuditDue = true;
    const netns = await this.#netnsOf(record, pod, ips);
    await Promise.all([this.#writeRules(record, pod, netns), this.#writeProbes(record, ips)]);
    if (record.netns !== netns) return this.#enrol(record, pod); // a new sandbox meanwhile
    record.meshed = meshedPod(record.uid, pod);
    if (this.#isSettling) return;
    await this.#handOver(record, pod, netns);
    const current = this.#o.source.pod(record.uid);
    if (current === null || redirectionOf(current) === "enabled") return;
    await this.#annotate(current, "enabled");
    this.#o.log.info({ pod: nameOf(pod), uid: record.uid }, "pod is in the mesh");
  }

  async #writeRules(record: PodRecord, pod: Pod, netns: PodNetns): Promise<void> {
    if (record.rules === "in" && !record.isAuditDue) return;
    const options = ruleOptionsFor(pod, this.#o.defaults);
    try {
      const faults = record.isAuditDue ? await this.#o.rules.faults(netns, options) : null;
      if (faults === null || faults.length > 0) {
        // a pod that should have had them all along: somebody took them out, or a reboot did
        if (faults !== null && (record.rules === "in" || redirectionOf(pod) === "enabled")) {
          this.#o.metrics.repairs.inc({ what: "rules" });
          this.#o.log.warn(
            { pod: nameOf(pod), faults },
            "rules were not in place, writing them again",
          );
        }
        await this.#o.rules.apply(netns, options);
      }
    } catch (cause) {
      throw new AgentError("RULES", `Cannot write the rules of pod ${nameOf(pod)}`, { cause });
    }
    if (record.netns !== netns) return;
    record.rules = "in";
    record.isAuditDue = false;
  }

  async #writeProbes(record: PodRecord, ips: readonly Ip[]): Promise<void> {
    const { uid } = record;
    const old = record.probeIps.filter((ip) => !ips.includes(ip));
    if (old.length === 0 && ips.every((ip) => record.probeIps.includes(ip))) return;
    await Promise.all([
      ...ips.map((ip) => this.#o.probes.put({ ip, uid })),
      ...old.map((ip) => this.#o.probes.drop({ ip, uid })),
    ]);
    record.probeIps = ips;
  }

  async #handOver(record: PodRecord, pod: Pod, netns: PodNetns): Promise<void> {
    if (record.meshed === null || this.#o.proxies.hasAcked(record.uid, netns.id)) return;
    if (record.isAwaited) await this.#o.proxies.untilConnected(PROXY_GRACE_MS);
    const outcome = await this.#o.proxies.add(record.meshed, netns);
    if (outcome?.kind === "ack") return;
    const name = nameOf(pod);
    // while a ztunnel restarts, pods that were fine stay marked as such: it will pick them up
    if (redirectionOf(pod) !== "enabled" || outcome?.kind === "nack")
      await this.#annotate(pod, "pending");
    if (outcome === null)
      throw new AgentError("NO_PROXY", `Pod ${name}: no ztunnel connection on this node`);
    if (outcome.kind === "nack")
      throw new AgentError("PROXY_REFUSED", `Pod ${name}: ztunnel refused it: ${outcome.error}`);
    throw new AgentError("PROXY_LOST", `Pod ${name}: ztunnel connection lost: ${outcome.why}`);
  }

  /** Takes a pod out that runs on: it must not be left with a redirection to nobody. */
  async #remove(record: PodRecord, pod: Pod): Promise<void> {
    const isAnnotated = redirectionOf(pod) !== null;
    if (!isAnnotated && record.meshed === null && record.rules === "out") return;
    const isSuspected = isAnnotated || record.meshed !== null || record.rules === "in";
    const ips = addressesOf(record, pod);
    await this.#dropProbes(record, isSuspected ? ips : []);
    const netns = record.netns ?? (await this.#o.finder.find(pod, ips, isSuspected));
    if (netns === null) {
      // nothing was ever written, as far as anybody knows: there is nothing to take out
      if (!isSuspected) return void (record.rules = "out");
      throw new AgentError(
        "NETNS_NOT_FOUND",
        `Pod ${nameOf(pod)}: its network namespace is not found`,
      );
    }
    if (record.netns !== netns) record.takeNetns(netns);
    const held = record.netns ?? netns;
    try {
      if (!isSuspected && !(await this.#o.rules.has(held))) {
        record.dropNetns();
        record.rules = "out";
        return;
      }
      await this.#o.rules.remove(held);
    } catch (cause) {
      throw new AgentError("RULES", `Cannot remove the rules of pod ${nameOf(pod)}`, { cause });
    }
    record.meshed = null;
    await this.#o.proxies.del(record.uid);
    if (isAnnotated) await this.#annotate(pod, null);
    record.dropNetns();
    record.rules = "out";
    this.#o.log.info({ pod: nameOf(pod), uid: record.uid }, "pod has left the mesh");
  }

  /** The pod has ended: its namespace goes with it. */
  async #release(record: PodRecord, pod: Pod): Promise<void> {
    const isAnnotated = redirectionOf(pod) !== null;
    await this.#letGo(record, isAnnotated ? podIps(pod) : []);
    if (isAnnotated) await this.#annotate(pod, null);
  }

  async #forget(record: PodRecord): Promise<void> {
    await this.#letGo(record, []);
    this.#o.forget(record.uid);
    // asked again meanwhile: that run must find the record
    if (record.queued !== null || this.#o.source.pod(record.uid) !== null) return;
    record[Symbol.dispose]();
    this.#records.delete(record.uid);
  }

  async #letGo(record: PodRecord, ips: readonly Ip[]): Promise<void> {
    await this.#dropProbes(record, ips);
    if (record.meshed !== null || record.netns !== null || record.isKept)
      await this.#o.proxies.del(record.uid);
    record.meshed = null;
    record.isKept = false;
    record.eventIps = [];
    record.dropNetns();
  }

  async #dropProbes(record: PodRecord, more: readonly Ip[]): Promise<void> {
    const ips = new Set([...record.probeIps, ...more]);
    await Promise.all([...ips].map((ip) => this.#o.probes.drop({ ip, uid: record.uid })));
    record.probeIps = [];
  }

  /** The pod's namespace; a held one stays unless it is no longer the pod's and a better one is found. */
  async #netnsOf(record: PodRecord, pod: Pod, ips: readonly Ip[]): Promise<PodNetns> {
    const held = record.netns;
    if (held !== null && (!record.isAuditDue || ips.length === 0 || held.holdsAny(ips)))
      return held;
    const found = await this.#o.finder.find(pod, ips, true);
    if (found !== null) record.takeNetns(found);
    if (record.netns !== null) return record.netns;
    throw new AgentError(
      "NETNS_NOT_FOUND",
      `Pod ${nameOf(pod)}: no process and no sandbox leads to its network namespace`,
    );
  }

  async #annotate(pod: Pod, value: "enabled" | "pending" | null): Promise<void> {
    if (redirectionOf(pod) === value) return;
    // a name is all a patch has: it must not reach a successor of the same name
    if (this.#o.source.pod(pod.metadata.uid ?? "") === null) return;
    try {
      await this.#o.annotate(pod, value);
    } catch (cause) {
      throw new AgentError("ANNOTATION", `Cannot annotate pod ${nameOf(pod)}`, { cause });
    }
  }

  #onFailure(record: PodRecord, pod: Pod | null, error: unknown): void {
    const text = explain(error);
    const isNew = record.lastError !== text;
    record.lastError = text;
    const code = error instanceof AgentError ? error.code : "UNEXPECTED";
    const fields = { uid: record.uid, pod: pod === null ? null : nameOf(pod), code, error: text };
    this.#o.metrics.failures.inc({ code });
    // the same failure again is no news, nor is it for every pod that a ztunnel restarts
    const isQuiet = code === "NO_PROXY" && pod !== null && redirectionOf(pod) === "enabled";
    if (isNew && !isQuiet) this.#o.log.warn(fields, "pod is not as it should be, trying again");
    else this.#o.log.debug(fields, "pod is still not as it should be");
    if (this.#isStopped || record.isDisposed) return;
    const backoff = new Backoff({ startMs: 200, maxMs: 15_000, jitter: 0.2, ...this.#o.retry });
    for (let i = 0; i < Math.min(record.attempts, 12); i++) backoff.next();
    record.attempts++;
    record.retry ??= setTimeout(() => {
      record.retry = null;
      this.request(record.uid);
    }, backoff.next());
  }

  #stateOf(record: PodRecord, pod: Pod): PodState {
    return podState(record, pod, this.wishOf(pod), this.#isAcked(record));
  }

  #isAcked({ uid, netns }: PodRecord): boolean {
    return netns !== null && this.#o.proxies.hasAcked(uid, netns.id);
  }

  #recordOf(uid: string): PodRecord {
    let record = this.#records.get(uid);
    if (record === undefined) this.#records.set(uid, (record = new PodRecord(uid)));
    return record;
  }
}

function addressesOf(record: PodRecord, pod: Pod): readonly Ip[] {
  const ips = podIps(pod);
  return ips.length > 0 ? ips : record.eventIps;
}

function meshedPod(uid: string, pod: Pod): MeshedPod {
  return {
    uid,
    name: pod.metadata.name,
    namespace: pod.metadata.namespace ?? "default",
    serviceAccount: pod.spec?.serviceAccountName ?? "default",
  };
}

function nameOf(pod: Pod): string {
  return `${pod.metadata.namespace ?? "default"}/${pod.metadata.name}`;
}
