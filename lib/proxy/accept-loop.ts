// A listening socket whose connections are taken a bounded number per turn, and not at all for a moment when
// the process is out of descriptors.
import type { SocketAddr } from "#lib/net/ip.ts";
import { SysError } from "#lib/sys/errors.ts";
import * as raw from "#lib/sys/raw.ts";
import { EPOLLIN, type FdHandler, type Reactor, type Timer } from "#lib/sys/reactor.ts";
import { accept } from "#lib/sys/socket.ts";

/** Connections taken per turn and listener. */
const ACCEPTS_PER_TURN = 64;
export const ACCEPT_BACKLOG = 1024;
export const ACCEPT_PAUSE_MS = 100;

export interface AcceptEvents {
  /** Takes an accepted socket. */
  onAccept(fd: number, peer: SocketAddr): void;
  /** accept(2) failed; it is tried again after `ACCEPT_PAUSE_MS`, those who wait stay in the backlog. */
  onPause(error: SysError): void;
}

/** Owns the listening socket. */
export class AcceptLoop implements FdHandler {
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #events: AcceptEvents;
  #timer: Timer | null = null;

  /** @throws {SysError} */
  constructor(reactor: Reactor, fd: number, events: AcceptEvents) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.#events = events;
    reactor.add(fd, EPOLLIN, this);
  }

  onReady(): void {
    this.#acceptSome();
  }

  /** Takes what waits in the backlog before it closes, which could reset them. */
  acceptWaiting(): void {
    for (let i = 0; i < ACCEPT_BACKLOG && this.#acceptSome(); i += ACCEPTS_PER_TURN);
  }

  close(): void {
    this.#timer?.cancel();
    this.#reactor.forget(this.#fd);
    raw.close(this.#fd);
  }

  /** `false` when nobody waits any more. */
  #acceptSome(): boolean {
    try {
      for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
        const got = accept(this.#fd);
        if (got === null) return false;
        this.#events.onAccept(got.fd, got.peer);
      }
      return true;
    } catch (error) {
      if (!(error instanceof SysError && error.call === "accept")) throw error;
      this.#pause(error);
      return false;
    }
  }

  /** Out of descriptors or memory: others end meanwhile. */
  #pause(error: SysError): void {
    this.#reactor.modify(this.#fd, 0);
    this.#timer = this.#reactor.after(ACCEPT_PAUSE_MS, () =>
      this.#reactor.modify(this.#fd, EPOLLIN),
    );
    this.#events.onPause(error);
  }
}
