// Wakes whoever waits for a kind to be served. One watch of the names of all CRDs, opened when the
// first kind is missed.
import type { Backoff } from "#lib/base/backoff.ts";
import type { Clock } from "#lib/base/clock.ts";
import type { KubeObject, WatchEvent, WatchHandler } from "../cluster.ts";
import { KubeError } from "../errors.ts";

/** Follows the CRDs until the signal aborts. */
export type FollowCrds = (handler: WatchHandler<KubeObject>, signal: AbortSignal) => Promise<void>;

/** While CRDs cannot be watched (no permission), a missing kind is looked for this often. */
const BLIND_POLL_MS = 30_000;

export class CrdNotices {
  readonly #follow: FollowCrds;
  readonly #clock: Clock;
  readonly #present = new Set<string>();
  readonly #waiting = new Map<string, Set<() => void>>();
  #isBlind = false;
  #running: { readonly controller: AbortController; readonly done: Promise<void> } | null = null;

  constructor(follow: FollowCrds, clock: Clock) {
    this.#follow = follow;
    this.#clock = clock;
  }

  /**
   * Resolves when the CRD of this name (`plural.group`) appears or changes; while it is there but not
   * served, after a pause of `backoff`. @returns whether it is there
   */
  async untilChanged(name: string, backoff: Backoff, signal: AbortSignal): Promise<boolean> {
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    const waiting = this.#waiting.get(name) ?? new Set();
    this.#waiting.set(name, waiting.add(wake));
    signal.addEventListener("abort", wake, { once: true });
    this.#start();
    try {
      if (this.#present.has(name)) await this.#clock.sleep(backoff.next(), woken.signal);
      else if (this.#isBlind) await this.#clock.sleep(BLIND_POLL_MS, woken.signal);
      else await aborted(woken.signal);
      return this.#present.has(name);
    } finally {
      waiting.delete(wake);
      if (waiting.size === 0) this.#waiting.delete(name);
      signal.removeEventListener("abort", wake);
    }
  }

  /** Ends the watch. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    running?.controller.abort();
    await running?.done;
  }

  #start(): void {
    if (this.#running !== null) return;
    const controller = new AbortController();
    this.#present.clear();
    this.#isBlind = false;
    const handler: WatchHandler<KubeObject> = {
      onEvents: (events) => this.#take(events),
      onSynced: () => {
        this.#isBlind = false;
      },
      onError: (error) => {
        if (!(error instanceof KubeError) || error.code !== "FORBIDDEN") return;
        this.#isBlind = true;
        // Those who wait look once more now, and then at intervals.
        for (const name of [...this.#waiting.keys()]) this.#wake(name);
      },
    };
    const done = this.#follow(handler, controller.signal);
    this.#running = { controller, done };
  }

  #take(events: readonly WatchEvent<KubeObject>[]): void {
    this.#isBlind = false;
    for (const { type, object } of events) {
      const { name } = object.metadata;
      if (type === "deleted") this.#present.delete(name);
      else {
        this.#present.add(name);
        this.#wake(name);
      }
    }
  }

  #wake(name: string): void {
    for (const wake of [...(this.#waiting.get(name) ?? [])]) wake();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}
