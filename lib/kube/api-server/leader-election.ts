// One leader among replicas, as client-go elects it: a record with the holder's name is renewed while it
// lives; others take it when they saw no renewal for its whole duration, by their own clock.
import { type Clock, type Random, systemClock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import { KubeError } from "../errors.ts";
import type { ApiServerCluster } from "./api-server-cluster.ts";
import {
  configMapLock,
  type ElectionLock,
  type ElectionRecord,
  type HeldRecord,
  leaseLock,
} from "./election-lock.ts";

export interface ElectionOptions {
  readonly cluster: ApiServerCluster;
  readonly namespace: string;
  readonly name: string;
  /** Unique among the candidates: the pod's name. */
  readonly identity: string;
  /** What holds the lock. `configMap`: the annotation Istio's older controllers use. Default `lease`. */
  readonly lock?: "lease" | "configMap";
  /** With a ConfigMap: Istio's `holderKey`, our revision. */
  readonly holderKey?: string;
  /** True when the lock may be taken from a living holder of this key. Default: never. */
  steals?(holderKey: string): boolean;
  /** Ends the candidacy; the lock is released. */
  readonly signal: AbortSignal;
  /**
   * Runs while we lead; its signal aborts when the lock is lost, and we stand again only after it has
   * returned. When it returns or throws of itself the lock is released.
   */
  onLead(signal: AbortSignal): Promise<void>;
  /** Called when the holder changes, ourselves included; "" when there is none. */
  onLeader?(identity: string): void;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly timing?: ElectionTiming;
}

export interface ElectionTiming {
  /** Others wait this long after the last renewal they saw. */
  readonly durationMs: number;
  /** A leader that could not renew for this long stops. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

/** As Istio's: duration, renewal deadline, retry. */
const TIMING: ElectionTiming = { durationMs: 30_000, renewDeadlineMs: 15_000, retryMs: 7_500 };
/** Candidates wait up to this much longer, so that they do not all ask at once. */
const JITTER = 0.2;
/** What a leader leaves behind when it goes: taken at once by the next. */
const RELEASED_SECONDS = 1;

/** Resolves when `signal` has aborted and the lock is released; never rejects for passing faults. */
export function electLeader(options: ElectionOptions): Promise<void> {
  return new Candidate(options).run();
}

class Candidate {
  readonly #options: ElectionOptions;
  readonly #timing: ElectionTiming;
  readonly #clock: Clock;
  readonly #lock: ElectionLock;
  readonly #log: Logger;
  /** The record as last seen and when its content last changed, by our clock. */
  #seen: { readonly held: HeldRecord; readonly at: number } | null = null;
  #leader: string | null = null;
  #reported = "";

  constructor(options: ElectionOptions) {
    const { cluster, namespace, name } = options;
    this.#options = options;
    this.#timing = options.timing ?? TIMING;
    this.#clock = options.clock ?? systemClock;
    this.#lock = (options.lock === "configMap" ? configMapLock : leaseLock)({
      cluster,
      namespace,
      name,
    });
    this.#log = options.log.child({ lock: `${namespace}/${name}`, identity: options.identity });
  }

  async run(): Promise<void> {
    const { signal, random = Math.random } = this.#options;
    while (!signal.aborted) {
      if (await this.#tryAcquire()) await (signal.aborted ? this.#release() : this.#lead());
      if (signal.aborted) return;
      await this.#clock.sleep(this.#timing.retryMs * (1 + JITTER * random()), signal);
    }
  }

  /** Elapsed time must not follow a clock that somebody sets. */
  #now(): number {
    return this.#options.clock === undefined ? performance.now() : this.#clock.now();
  }

  async #tryAcquire(): Promise<boolean> {
    try {
      const held = await this.#look();
      if (this.#options.signal.aborted || !this.#mayTake(held)) return false;
      this.#see(await this.#write(held));
      this.#reported = "";
      return true;
    } catch (error) {
      if (isRace(error)) this.#seen = null;
      else this.#report(error);
      return false;
    }
  }

  #mayTake(held: HeldRecord | null): boolean {
    if (held === null) return true;
    const { holder, holderKey } = held.record;
    if (holder === "" || holder === this.#options.identity) return true;
    if (this.#options.steals?.(holderKey) === true) return true;
    const since = this.#now() - (this.#seen?.at ?? this.#now());
    const { durationSeconds } = held.record;
    return since >= (durationSeconds > 0 ? durationSeconds * 1000 : this.#timing.durationMs);
  }

  async #look(): Promise<HeldRecord | null> {
    const held = await this.#lock.read();
    if (held === null) this.#seen = null;
    else this.#see(held);
    this.#tell(held?.record.holder ?? "");
    return held;
  }

  #see(held: HeldRecord): void {
    const isRenewed = !sameRecord(this.#seen?.held.record, held.record);
    this.#seen = { held, at: isRenewed ? this.#now() : (this.#seen?.at ?? this.#now()) };
  }

  /** Writes our name: into a new object, or over what we have seen. */
  async #write(held: HeldRecord | null): Promise<HeldRecord> {
    const now = this.#clock.now();
    const isOurs = held?.record.holder === this.#options.identity;
    const record: ElectionRecord = {
      holder: this.#options.identity,
      holderKey: this.#options.holderKey ?? "",
      durationSeconds: Math.max(1, Math.ceil(this.#timing.durationMs / 1000)),
      acquiredAt: isOurs ? held.record.acquiredAt : now,
      renewedAt: now,
      transitions: (held?.record.transitions ?? 0) + (isOurs || held === null ? 0 : 1),
    };
    return held === null ? this.#lock.create(record) : this.#lock.update(record, held.version);
  }

  async #lead(): Promise<void> {
    const term = new AbortController();
    this.#tell(this.#options.identity);
    this.#log.info("leading");
    const work = this.#options
      .onLead(term.signal)
      .catch((error: unknown) => this.#log.error({ error }, "the leader's work failed"))
      .finally(() => term.abort());
    const { signal } = this.#options;
    const stop = (): void => term.abort();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    const isLost = await this.#renewUntilLost(term.signal);
    term.abort();
    signal.removeEventListener("abort", stop);
    await work;
    if (isLost) this.#log.warn("no longer leading");
    else await this.#release();
  }

  /** Resolves when the term ends (false) or somebody or something took the lock (true). */
  async #renewUntilLost(term: AbortSignal): Promise<boolean> {
    const { retryMs, renewDeadlineMs } = this.#timing;
    let renewedAt = this.#now();
    for (;;) {
      await this.#clock.sleep(retryMs, term);
      if (term.aborted) return false;
      const leftMs = renewedAt + renewDeadlineMs - this.#now();
      const begun = this.#now();
      // A request that hangs must not keep us leading.
      const patience = new AbortController();
      const outcome = await Promise.race([
        this.#renew(),
        this.#clock.sleep(Math.max(0, leftMs), patience.signal).then(() => "late" as const),
      ]);
      patience.abort();
      if (term.aborted) return false;
      if (outcome === "renewed") renewedAt = begun;
      else if (outcome !== "failed" || this.#now() - renewedAt >= renewDeadlineMs) return true;
    }
  }

  async #renew(): Promise<"renewed" | "lost" | "failed"> {
    try {
      return await this.#renewOnce();
    } catch (error) {
      if (!isRace(error)) {
        this.#report(error);
        return "failed";
      }
    }
    // Somebody wrote to the record, or deleted it: whose is it now?
    try {
      const held = await this.#look();
      if (held !== null && held.record.holder !== this.#options.identity) return "lost";
      return await this.#renewOnce();
    } catch (error) {
      if (!isRace(error)) this.#report(error);
      return "failed";
    }
  }

  async #renewOnce(): Promise<"renewed"> {
    this.#see(await this.#write(this.#seen?.held ?? null));
    this.#reported = "";
    return "renewed";
  }

  async #release(): Promise<void> {
    const held = this.#seen?.held;
    if (held?.record.holder !== this.#options.identity) return;
    const now = this.#clock.now();
    try {
      await this.#lock.update(
        {
          ...held.record,
          holder: "",
          holderKey: "",
          durationSeconds: RELEASED_SECONDS,
          acquiredAt: now,
          renewedAt: now,
        },
        held.version,
      );
      this.#seen = null;
      this.#tell("");
      this.#log.info("lock released");
    } catch (error) {
      if (!isRace(error)) this.#log.warn({ error }, "lock not released: it will run out");
    }
  }

  #tell(holder: string): void {
    if (holder === this.#leader) return;
    this.#leader = holder;
    this.#options.onLeader?.(holder);
  }

  #report(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (message === this.#reported) return;
    this.#reported = message;
    this.#log.warn({ error }, "the lock cannot be read or written");
  }
}

/** Somebody was faster, which is what elections are about. */
function isRace(error: unknown): boolean {
  return (
    error instanceof KubeError &&
    (error.code === "CONFLICT" || error.code === "ALREADY_EXISTS" || error.code === "NOT_FOUND")
  );
}

function sameRecord(a: ElectionRecord | undefined, b: ElectionRecord): boolean {
  return (
    a !== undefined &&
    a.holder === b.holder &&
    a.renewedAt === b.renewedAt &&
    a.acquiredAt === b.acquiredAt &&
    a.transitions === b.transitions
  );
}
