// The last second of a connection: nothing more is sent, and what still comes is thrown away. Closing at
// once, with bytes unread, would make the kernel reset the connection and take from the peer our GOAWAY or
// alert that it has not read yet (RFC 1122 §4.2.2.13).
import { EAGAIN, EINTR, lastErrno } from "#lib/sys/errors.ts";
import * as raw from "#lib/sys/raw.ts";
import { EPOLLIN, type FdHandler, type Reactor, type Timer } from "#lib/sys/reactor.ts";
import { READ_SIZE, readScratch } from "./buffers.ts";
import { LINGER_BYTES, LINGER_MS } from "./limits.ts";

const SHUT_WR = 1;

/** Owns the socket; ends by itself. */
export class LingeringClose implements FdHandler {
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #timer: Timer;
  #left = LINGER_BYTES;
  #isClosed = false;

  /** @param fd registered with `reactor`; its handler is replaced */
  constructor(reactor: Reactor, fd: number) {
    this.#reactor = reactor;
    this.#fd = fd;
    raw.shutdown(fd, SHUT_WR);
    reactor.remove(fd);
    reactor.add(fd, EPOLLIN, this);
    this.#timer = reactor.after(LINGER_MS, () => this.#close());
  }

  onReady(): void {
    const got = raw.read(this.#fd, readScratch().address, READ_SIZE);
    if (got > 0) {
      this.#left -= got;
      if (this.#left > 0) return;
    } else if (got < 0) {
      const errno = lastErrno();
      if (errno === EAGAIN || errno === EINTR) return;
    }
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer.cancel();
    this.#reactor.forget(this.#fd);
    raw.close(this.#fd);
  }
}
