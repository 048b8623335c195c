// New connections, each proved by one byte that comes back. They are closed at once, or kept for as long as the
// far side keeps them.
import type { SocketAddr } from "#lib/net/ip.ts";
import { nativeBuffer } from "#lib/sys/memory.ts";
import { EPOLLIN, Reactor } from "#lib/sys/reactor.ts";
import { Latencies } from "./latencies.ts";
import { ECHO, type LoadResult } from "./protocol.ts";
import { LoadSocket } from "./socket.ts";

const hello = nativeBuffer(2);
hello.bytes.fill(ECHO);
const input = nativeBuffer(16);

export interface ConnectsOptions {
  /** Connections that are being opened at a time. */
  readonly inFlight: number;
  /** Stop after so many and keep them open. */
  readonly keep?: number;
}

export class Connects {
  readonly #reactor = new Reactor();
  readonly #target: SocketAddr;
  readonly #inFlight: number;
  readonly #keep: number | null;
  readonly latencies = new Latencies();
  #started = 0;
  #opening = 0;
  #failures = 0;
  #open = 0;

  constructor(target: SocketAddr, options: ConnectsOptions) {
    this.#target = target;
    this.#inFlight = options.inFlight;
    this.#keep = options.keep ?? null;
  }

  /** Connections kept open now. */
  get open(): number {
    return this.#open;
  }

  get isKeeping(): boolean {
    return this.#keep !== null;
  }

  /** Until the time is over, or all that are to be kept are open. */
  run(ms: number): LoadResult {
    const started = performance.now();
    const wanted = this.#keep ?? Infinity;
    for (;;) {
      const elapsed = performance.now() - started;
      const isDone = this.#started >= wanted && this.#opening === 0;
      if (isDone || elapsed >= ms) return this.latencies.result(elapsed / 1_000, this.#failures);
      while (this.#opening < this.#inFlight && this.#started < wanted) {
        this.#started++;
        this.#opening++;
        new ConnectSocket(this.#reactor, this.#target, this);
      }
      this.#reactor.turn(100);
    }
  }

  waitClosed(): void {
    while (this.#open > 0) this.#reactor.turn(1_000);
  }

  onProved(): void {
    this.#opening--;
    if (this.isKeeping) this.#open++;
  }

  onFailed(wasProved: boolean): void {
    if (wasProved) this.#open--;
    else {
      this.#opening--;
      this.#failures++;
    }
  }
}

class ConnectSocket extends LoadSocket {
  readonly #owner: Connects;
  readonly #startedAt = performance.now();
  #isProved = false;

  constructor(reactor: Reactor, target: SocketAddr, owner: Connects) {
    super(reactor, target);
    this.#owner = owner;
  }

  protected onConnected(): void {
    this.listenFor(EPOLLIN);
    this.write(hello.address, 2);
  }

  protected onReadable(): void {
    const got = this.read(input.address, input.size);
    if (got <= 0 || this.#isProved) return;
    this.#isProved = true;
    this.#owner.latencies.add((performance.now() - this.#startedAt) * 1_000);
    this.#owner.onProved();
    if (!this.#owner.isKeeping) this.close();
  }

  protected onFailed(): void {
    this.#owner.onFailed(this.#isProved);
  }
}
