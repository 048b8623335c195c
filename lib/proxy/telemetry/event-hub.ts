// `/ambit/events`: what the workers have recorded, merged into one numbered stream. The workers are
// asked only while somebody listens; what fell out of a ring unread is told as a `lost` record.
import type { TunnelEvent } from "#lib/model/tunnel.ts";

/** Where events are recorded: one or more workers, each with numbers of its own. */
export interface EventWorkers {
  /** @param since  number of the last event seen of a worker; only later ones are wanted */
  snapshots(
    of: "events",
    since: (worker: number) => number,
  ): Promise<{
    readonly answers: readonly {
      readonly worker: number;
      readonly snapshot: { readonly events?: readonly TunnelEvent[] };
    }[];
  }>;
}

export interface EventHubOptions {
  readonly dataPlane: EventWorkers;
  /** Waits between two looks; ends early on abort. */
  readonly pause: (signal: AbortSignal) => Promise<void>;
  readonly now: () => number;
}

/** Merged events kept for listeners that are slow or come back. */
const RING_SIZE = 4_096;

export class EventHub {
  readonly #options: EventHubOptions;
  readonly #ring: TunnelEvent[] = [];
  /** Last number read from each worker. */
  readonly #seen = new Map<number, number>();
  #lastSeq = 0;
  #looking: Promise<void> | null = null;

  constructor(options: EventHubOptions) {
    this.#options = options;
  }

  /**
   * Events as NDJSON lines until `signal` aborts. Whatever happens after this has resolved is among them.
   * @param since  only events with a higher number; 0: all that are still held; null: from now on
   */
  async open(since: number | null, signal: AbortSignal): Promise<AsyncIterable<string>> {
    await this.#look();
    return this.#follow(since ?? this.#lastSeq, since === 0, signal);
  }

  async *#follow(start: number, isAll: boolean, signal: AbortSignal): AsyncGenerator<string> {
    let cursor = start;
    while (!signal.aborted) {
      const oldest = this.#ring[0]?.seq ?? this.#lastSeq + 1;
      if (cursor + 1 < oldest && !isAll) yield line(this.#lost(oldest - 1, oldest - 1 - cursor));
      cursor = Math.max(cursor, oldest - 1);
      // A copy: the ring moves on while a slow reader takes its lines.
      for (const event of this.#ring.slice(cursor + 1 - oldest)) {
        if (signal.aborted) return;
        yield line(event);
        cursor = event.seq;
      }
      await this.#options.pause(signal);
      if (!signal.aborted) await this.#look();
    }
  }

  /** One look for all listeners at a time. */
  #look(): Promise<void> {
    this.#looking ??= this.#read().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #read(): Promise<void> {
    const { dataPlane } = this.#options;
    const { answers } = await dataPlane.snapshots(
      "events",
      (worker) => this.#seen.get(worker) ?? 0,
    );
    const fresh: TunnelEvent[] = [];
    for (const { worker, snapshot } of answers) {
      const events = snapshot.events ?? [];
      const before = this.#seen.get(worker);
      const [first] = events;
      const last = events.at(-1);
      if (first === undefined || last === undefined) continue;
      // Before the first look nobody could have lost anything.
      if (before !== undefined && first.seq > before + 1)
        fresh.push({ ...this.#lost(0, first.seq - before - 1), time: first.time });
      fresh.push(...events);
      this.#seen.set(worker, last.seq);
    }
    fresh.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
    for (const event of fresh) this.#ring.push({ ...event, seq: ++this.#lastSeq });
    if (this.#ring.length > RING_SIZE) this.#ring.splice(0, this.#ring.length - RING_SIZE);
  }

  #lost(seq: number, lost: number): TunnelEvent {
    return {
      seq,
      time: new Date(this.#options.now()).toISOString(),
      event: "lost",
      direction: "inbound",
      source: { address: "" },
      destination: { address: "" },
      lost,
    };
  }
}

function line(event: TunnelEvent): string {
  return `${JSON.stringify(event)}\n`;
}
