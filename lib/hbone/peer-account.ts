// What one peer workload may cost us, over all its tunnels: budgets for what well-behaved peers do seldom, and
// the bytes it makes us hold. Tunnels draw on it from their handshake on; peer-book.ts keeps it between them.
import { DEFAULT_WINDOW_BYTES } from "#lib/wire/http2.ts";
import { Budget } from "./budget.ts";
import * as limit from "./limits.ts";

export class PeerAccount {
  readonly control: Budget = new Budget(limit.CONTROL_BUDGET);
  /** Streams the peer reset before they were answered, or made us reset. */
  readonly resets: Budget = new Budget(limit.RESET_BUDGET);
  readonly denials: Budget = new Budget(limit.DENIAL_BUDGET);
  /** Bytes that wait for slow applications; they may outlive their tunnel. */
  held = 0;
  #tunnels = 0;
  /** Connection windows of the tunnels that are open. */
  #promised = 0;
  readonly #onIdle: ((account: PeerAccount, steadyMs: number) => void) | null;

  /** @param onIdle no tunnel is open any more, and nothing is held */
  constructor(onIdle: ((account: PeerAccount, steadyMs: number) => void) | null = null) {
    this.#onIdle = onIdle;
  }

  /**
   * How large a tunnel's connection window may be. Counted until `leave`.
   * @param before what it was promised earlier; 0 for a new tunnel. It never shrinks (RFC 9113 §6.9.2)
   */
  promise(before: number): number {
    if (before === 0) this.#tunnels++;
    const left = limit.PEER_WINDOWS_MAX - this.#promised - this.held + before;
    const share = Math.floor(left / limit.PEER_WINDOW_SHARE);
    const size = Math.max(
      before,
      Math.min(limit.CONNECTION_WINDOW, Math.max(DEFAULT_WINDOW_BYTES, share)),
    );
    this.#promised += size - before;
    return size;
  }

  /** A tunnel has closed. @param promised its last window */
  leave(promised: number, steadyMs: number): void {
    this.#tunnels--;
    this.#promised -= promised;
    this.#tellIfIdle(steadyMs);
  }

  /** Held bytes are gone. */
  release(length: number, steadyMs: number): void {
    this.held -= length;
    if (this.#tunnels === 0) this.#tellIfIdle(steadyMs);
  }

  #tellIfIdle(steadyMs: number): void {
    if (this.#tunnels === 0 && this.held === 0) this.#onIdle?.(this, steadyMs);
  }
}
