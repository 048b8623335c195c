// Tunnels of one pod, shared by its connections to the same next hop and identities. A tunnel that is
// still being set up already takes streams, so that at most one is dialled per key at a time and all
// who wait fail together.
import type { HeaderList } from "#lib/wire/hpack-encoder.ts";
import type { Ip, SocketAddr } from "#lib/net/ip.ts";
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

/** What two connections must have in common to share a tunnel; the source identity is the pool's own. */
export interface PoolKey {
  readonly nextHop: SocketAddr;
  readonly sourceIp: Ip;
  /** Expected of the peer, in order. */
  readonly identities: readonly string[];
}

/** Starts a tunnel to the key's next hop. @throws {HboneError} when it cannot even begin */
export type Dial = (owner: TunnelOwner) => Tunnel;

interface Entry {
  readonly key: PoolKey;
  readonly tunnel: Tunnel;
  usedAtMs: number;
}

/** More tunnels than this are kept only while they carry streams. */
const MAX_IDLE_TUNNELS = 500;

/** Owns its tunnels. */
export class HbonePool implements Disposable {
  readonly #options: PoolOptions;
  /** By the next hop's address; few entries share one. */
  readonly #byIp = new Map<Ip, Entry[]>();
  readonly #entryOf = new Map<Tunnel, Entry>();
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
    return this.#entryOf.size;
  }

  tunnels(): MapIterator<Tunnel> {
    return this.#entryOf.keys();
  }

  /**
   * Opens `stream` over a tunnel of `key`, dialling one if none has room.
   * @throws {HboneError} when dialling cannot begin
   */
  open(key: PoolKey, dial: Dial, stream: HboneStream, headers: HeaderList): void {
    if (this.#isClosed) throw new HboneError("CLOSING", "The proxy is closing");
    const { maxStreams, reactor } = this.#options;
    let entries = this.#byIp.get(key.nextHop.ip);
    if (entries !== undefined)
      for (const entry of entries) {
        if (!isSameKey(entry.key, key)) continue;
        if (entry.tunnel.streamCount >= maxStreams || !entry.tunnel.hasRoomForStream) continue;
        entry.usedAtMs = reactor.steadyMs;
        return entry.tunnel.openStream(stream, headers);
      }
    const tunnel = dial(this.#owner);
    if (entries === undefined) {
      entries = [];
      this.#byIp.set(key.nextHop.ip, entries);
    }
    const entry = { key, tunnel, usedAtMs: reactor.steadyMs };
    entries.push(entry);
    this.#entryOf.set(tunnel, entry);
    this.#sweep ??= reactor.after(this.#sweepMs, () => this.#release());
    tunnel.openStream(stream, headers);
  }

  /** Ends every tunnel gracefully; streams go on. */
  drain(): void {
    this.#isClosed = true;
    for (const tunnel of [...this.#entryOf.keys()]) tunnel.drain();
  }

  /** Ends every tunnel and stream now. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#sweep?.cancel();
    for (const tunnel of [...this.#entryOf.keys()])
      tunnel.close(new HboneError("CLOSING", "The pod is gone"));
  }

  get #sweepMs(): number {
    return Math.min(30_000, Math.max(1_000, this.#options.idleMs / 2));
  }

  #release(): void {
    this.#sweep = null;
    const { steadyMs } = this.#options.reactor;
    const idle = [...this.#entryOf.values()]
      .filter(({ tunnel }) => tunnel.streamCount === 0)
      .toSorted((a, b) => b.usedAtMs - a.usedAtMs);
    for (const [i, { tunnel, usedAtMs }] of idle.entries())
      if (steadyMs - usedAtMs >= this.#options.idleMs || i >= MAX_IDLE_TUNNELS) tunnel.drain();
    if (this.#entryOf.size > 0)
      this.#sweep = this.#options.reactor.after(this.#sweepMs, () => this.#release());
  }

  /** Out of reach for new streams; counted until it has closed. */
  #remove(tunnel: Tunnel): void {
    const entry = this.#entryOf.get(tunnel);
    if (entry === undefined) return;
    const { ip } = entry.key.nextHop;
    const entries = this.#byIp.get(ip)?.filter((other) => other !== entry) ?? [];
    if (entries.length === 0) this.#byIp.delete(ip);
    else this.#byIp.set(ip, entries);
    if (tunnel.state === "closed") this.#entryOf.delete(tunnel);
  }
}

function isSameKey(a: PoolKey, b: PoolKey): boolean {
  if (a.nextHop.port !== b.nextHop.port || a.sourceIp !== b.sourceIp) return false;
  if (a.identities.length !== b.identities.length) return false;
  for (let i = 0; i < a.identities.length; i++)
    if (a.identities[i] !== b.identities[i]) return false;
  return true;
}
