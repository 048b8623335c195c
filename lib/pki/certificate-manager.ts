// Keeps a valid certificate for every identity of this node: fetched ahead of use, renewed at half
// life, retried with backoff. A valid certificate is never given up because a renewal failed.
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock, Random } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { CertificateMaterial } from "./certificate-material.ts";
import {
  CertificateEntry,
  PRIORITY,
  renewalTime,
  type CertificateView,
  type Priority,
} from "./certificate-entry.ts";

/** Asks the signer once. @throws whatever kept it from giving a certificate for exactly this identity */
export type FetchCertificate = (
  identity: string,
  signal: AbortSignal,
) => Promise<CertificateMaterial>;

export interface CertificateManagerOptions {
  readonly fetch: FetchCertificate;
  /** A certificate is in use from now on. */
  readonly onAvailable: (material: CertificateMaterial) => void;
  /** None is valid now; connections that wait get `reason`. Called again for each failed attempt. */
  readonly onUnavailable: (identity: string, reason: string) => void;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

/** Signing calls in flight at most. */
const MAX_CALLS = 8;
/** Prefetches that may wait. Beyond it an identity is fetched when a connection needs it. */
const MAX_WARMUPS = 256;
const BACKOFF = { startMs: 1_000, maxMs: 150_000, jitter: 0.2 } as const;
/** Looks at the wall clock at least this often: a suspended machine makes timers late. */
const MAX_SLEEP_MS = 60_000;

export class CertificateManager {
  readonly #options: CertificateManagerOptions;
  readonly #entries = new Map<string, CertificateEntry>();
  readonly #backoffs = new Map<string, Backoff>();
  /** Entries waiting for one of the MAX_CALLS places. */
  readonly #queue = new Set<CertificateEntry>();
  #inFlight = 0;
  #order = 0;
  #wake = new AbortController();

  constructor(options: CertificateManagerOptions) {
    this.#options = options;
  }

  /** Fetches ahead of use; a no-op for a known identity. */
  prefetch(identity: string): void {
    if (this.#entries.has(identity)) return;
    let waiting = 0;
    for (const entry of this.#queue) if (entry.queued?.priority === PRIORITY.warmup) waiting++;
    if (waiting >= MAX_WARMUPS) return;
    this.#enqueue(this.#add(identity), PRIORITY.warmup);
  }

  /**
   * A connection needs this identity.
   * @returns the certificate in use, or the state in which the caller learns more later
   *          (`initializing`: `onAvailable` or `onUnavailable` follows; `unavailable`: fail it now)
   */
  need(identity: string): CertificateView {
    const entry = this.#entries.get(identity) ?? this.#add(identity);
    if (entry.expire(this.#options.clock.now())) this.#announceLoss(entry);
    if (entry.state === "initializing" && entry.call === null)
      this.#enqueue(entry, PRIORITY.realTime);
    return entry.view();
  }

  /** Drops the certificate and discards a call under way: no local workload has this identity any more. */
  forget(identity: string): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined) return;
    entry.call?.abort();
    this.#queue.delete(entry);
    this.#entries.delete(identity);
    this.#backoffs.delete(identity);
  }

  /** Every identity, sorted, for the config dump. */
  views(): CertificateView[] {
    const views = [...this.#entries.values()].map((entry) => entry.view());
    return views.sort((a, b) => (a.identity < b.identity ? -1 : 1));
  }

  /** Renews and retries until `signal` aborts; calls under way are then cancelled. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const next = this.#turn(clock.now());
      const sleepMs = Math.min(MAX_SLEEP_MS, Math.max(0, next - clock.now()));
      await clock.sleep(sleepMs, AbortSignal.any([signal, this.#wake.signal]));
    }
    for (const entry of this.#entries.values()) entry.call?.abort();
  }

  /** Queues what is due, ends what ran out. @returns when to look again */
  #turn(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values()) {
      if (entry.expire(now)) this.#announceLoss(entry);
      if (entry.dueAt !== null && entry.dueAt <= now) {
        entry.dueAt = null;
        const waits = entry.state === "initializing" ? PRIORITY.warmup : PRIORITY.background;
        this.#enqueue(entry, waits);
      }
      next = Math.min(next, entry.dueAt ?? next, entry.material?.notAfter ?? next);
    }
    return next;
  }

  #add(identity: string): CertificateEntry {
    const entry = new CertificateEntry(identity);
    this.#entries.set(identity, entry);
    this.#backoffs.set(identity, new Backoff({ ...BACKOFF, random: this.#options.random }));
    return entry;
  }

  /** Puts the entry in line, or moves it up. */
  #enqueue(entry: CertificateEntry, priority: Priority): void {
    if (entry.call !== null) return;
    if (entry.queued === null) entry.queued = { priority, order: this.#order++ };
    else entry.queued.priority = Math.min(entry.queued.priority, priority) as Priority;
    this.#queue.add(entry);
    this.#startCalls();
  }

  #startCalls(): void {
    while (this.#inFlight < MAX_CALLS) {
      const entry = first(this.#queue);
      if (entry === null) return;
      this.#queue.delete(entry);
      entry.queued = null;
      entry.call = new AbortController();
      this.#inFlight++;
      void this.#fetch(entry, entry.call.signal).finally(() => {
        this.#inFlight--;
        this.#startCalls();
        this.#wake.abort(); // a new time to look again
      });
    }
  }

  /** Never rejects. */
  async #fetch(entry: CertificateEntry, signal: AbortSignal): Promise<void> {
    const { fetch, log } = this.#options;
    const { identity } = entry;
    try {
      const material = await fetch(identity, signal);
      if (signal.aborted) return; // forgotten meanwhile
      entry.call = null;
      this.#succeed(entry, material);
    } catch (error) {
      if (signal.aborted) return;
      entry.call = null;
      this.#fail(entry, error);
      log.warn(
        { identity, error, state: entry.state, retryAt: iso(entry.dueAt) },
        "certificate fetch failed",
      );
    }
  }

  #succeed(entry: CertificateEntry, material: CertificateMaterial): void {
    const { clock, random, log, onAvailable } = this.#options;
    entry.material = material;
    entry.state = "available";
    entry.error = null;
    entry.dueAt = renewalTime(material, clock.now(), random());
    this.#backoffs.get(entry.identity)?.reset();
    log.info(
      { identity: entry.identity, expires: iso(material.notAfter), renewAt: iso(entry.dueAt) },
      "certificate fetched",
    );
    onAvailable(material);
  }

  /** Keeps what is valid; retries before it runs out, however long the backoff has grown. */
  #fail(entry: CertificateEntry, error: unknown): void {
    const now = this.#options.clock.now();
    entry.error = error instanceof Error ? error.message : String(error);
    const retryAt = now + (this.#backoffs.get(entry.identity)?.next() ?? BACKOFF.maxMs);
    entry.expire(now);
    if (entry.material === null) {
      entry.state = "unavailable";
      entry.dueAt = retryAt;
      this.#announceLoss(entry);
    } else {
      entry.dueAt = Math.min(retryAt, entry.material.notAfter);
    }
  }

  #announceLoss(entry: CertificateEntry): void {
    this.#options.onUnavailable(entry.identity, entry.error ?? "No certificate");
  }
}

/** Highest priority first, then the order of asking. The queue is short: a scan beats a heap. */
function first(queue: ReadonlySet<CertificateEntry>): CertificateEntry | null {
  let best: CertificateEntry | null = null;
  for (const entry of queue) if (best === null || isBefore(entry, best)) best = entry;
  return best;
}

function isBefore(a: CertificateEntry, b: CertificateEntry): boolean {
  const [x, y] = [a.queued, b.queued];
  if (x === null || y === null) return false;
  return x.priority === y.priority ? x.order < y.order : x.priority < y.priority;
}

function iso(ms: number | null): string {
  return ms === null || !Number.isFinite(ms) || Math.abs(ms) > 8.64e15
    ? "never"
    : new Date(ms).toISOString();
}
