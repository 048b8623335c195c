// Tunnels of one pod, shared by its connections to the same next hop and identities. A tunnel that is
// still being set up already takes streams, so that at most one is dialled per key at a time and all
// who wait fail together.
import type { HeaderList } from "#lib/wire/hpack-encoder.ts";
import type { Reactor, Timer } from "#lib/sys/reactor.ts";
import { HboneError } from "./errors.ts";
import type { HboneStream } from "./stream.ts";
import type { Tunnel, TunnelOwner } from "./tunnel.ts";

export interface PoolOptions {
  readonly reactor: Reactor;
  /** Streams per tunnel, lowered to the peer's own limit. */
  readonly maxStreams: number;
  /** A tunnel without streams is released after this time. */
  readonly idleMs: number;
}

/** Starts a tunnel to the key's next hop. @throws {HboneError} when it cannot even begin */
export type Dial = (owner: TunnelOwner) => Tunnel;

interface Entry {
  readonly tunnel: Tunnel;
  usedAtMs: number;
}

/** More tunnels than this are kept only while they carry streams. */
const MAX_IDLE_TUNNELS = 500;

/** Owns its tunnels. */
export class HbonePool implements Disposable {
  readonly #options: PoolOptions;
  readonly #byKey = new Map<string, Entry[]>();
  readonly #keyOf = new Map<Tunnel, string>();
  #sweep: Timer | null = null;
  #isClosed = false;
  readonly #owner: TunnelOwner = {
    onOpen: () => {},
    onGoAway: (tunnel) => this.#remove(tunnel),
    onClosed: (tunnel) => this.#remove(tunnel),
    onConnect: (tunnel, streamId, _request, isEnded) => tunnel.refuse(streamId, 400, isEnded),
  };

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#keyOf.size;
  }

  tunnels(): MapIterator<Tunnel> {
    return this.#keyOf.keys();
  }

  /**
   * Opens `stream` over a tunnel of `key`, dialling one if none has room.
   * @throws {HboneError} when dialling cannot begin
   */
  open(key: string, dial: Dial, stream: HboneStream, headers: HeaderList): void {
    if (this.#isClosed) throw new HboneError("CLOSING", "The proxy is closing");
    const { maxStreams, reactor } = this.#options;
    let entries = this.#byKey.get(key);
    if (entries !== undefined)
      for (const entry of entries) {
        if (entry.tunnel.streamCount >= maxStreams || !entry.tunnel.hasRoomForStream) continue;
        entry.usedAtMs = reactor.nowMs;
        return entry.tunnel.openStream(stream, headers);
      }
    const tunnel = dial(this.#owner);
    if (entries === undefined) {
      entries = [];
      this.#byKey.set(key, entries);
    }
    entries.push({ tunnel, usedAtMs: reactor.nowMs });
    this.#keyOf.set(tunnel, key);
    this.#sweep ??= reactor.after(this.#sweepMs, () => this.#release());
    tunnel.openStream(stream, headers);
  }

  /** Ends every tunnel gracefully; streams go on. */
  drain(): void {
    this.#isClosed = true;
    for (const tunnel of [...this.#keyOf.keys()]) tunnel.drain();
  }

  /** Ends every tunnel and stream now. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#sweep?.cancel();
    for (const tunnel of [...this.#keyOf.keys()])
      tunnel.close(new HboneError("CLOSING", "The pod is gone"));
  }

  get #sweepMs(): number {
    return Math.min(30_000, Math.max(1_000, this.#options.idleMs / 2));
  }

  #release(): void {
    this.#sweep = null;
    const { nowMs } = this.#options.reactor;
    let idle = 0;
    for (const entries of this.#byKey.values())
      for (const { tunnel, usedAtMs } of [...entries]) {
        if (tunnel.streamCount > 0) continue;
        idle++;
        if (nowMs - usedAtMs >= this.#options.idleMs || idle > MAX_IDLE_TUNNELS) tunnel.drain();
      }
    if (this.#keyOf.size > 0)
      this.#sweep = this.#options.reactor.after(this.#sweepMs, () => this.#release());
  }

  #remove(tunnel: Tunnel): void {
    const key = this.#keyOf.get(tunnel);
    if (key === undefined) return;
    const entries = this.#byKey.get(key)?.filter((entry) => entry.tunnel !== tunnel) ?? [];
    if (entries.length === 0) this.#byKey.delete(key);
    else this.#byKey.set(key, entries);
    if (tunnel.state === "closed" || !tunnel.isGoingAway) this.#keyOf.delete(tunnel);
    else this.#keyOf.set(tunnel, "");
  }
}
