// A plain TCP socket as the far side of a relayed stream: connected first, then read straight into the stream's tunnel.
// Hot path throughout: runs per chunk.
import { EAGAIN, EINTR, lastErrno } from "#lib/sys/errors.ts";
import * as raw from "#lib/sys/raw.ts";
import {
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  type FdHandler,
  type Reactor,
  type Task,
} from "#lib/sys/reactor.ts";
import { resetOnClose, socketError } from "#lib/sys/socket.ts";
import type { Inlet, Outlet, RelayStream } from "./relay.ts";

/** Reads before others get their turn. */
const READS_PER_TURN = 4;
const SHUT_WR = 1;

export interface SocketEvents {
  /** The connect is over: 0, or its errno. Called once; the socket is still to be disposed. */
  onConnected(errno: number): void;
  /** The far end has sent its last byte. Called once. */
  onPassed(): void;
  /** The far end has ended and takes no more either: what still comes for it would be dropped. Called once. */
  onDead(): void;
}

/** Owns the socket. */
export class SocketEnd implements Outlet, Inlet, FdHandler, Task {
  isQueued = false;
  readonly #reactor: Reactor;
  readonly #events: SocketEvents;
  #fd: number;
  #stream: RelayStream | null = null;
  #isConnected = false;
  #isReadEnded = false;
  /** The far end takes no more: what still comes is dropped, and the relay ends with the other direction. */
  #isWriteDead = false;
  #wantsRoom = false;
  #isHangup = false;

  /** @param fd  connecting or connected; taken */
  constructor(reactor: Reactor, fd: number, events: SocketEvents) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.#events = events;
    reactor.add(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this);
  }

  /** Bytes flow between the connected socket and `stream` from now on. */
  join(stream: RelayStream): void {
    this.#stream = stream;
    stream.join(this, this);
    this.#reactor.again(this);
  }

  onReady(events: number): void {
    if (this.#fd < 0) return;
    if (!this.#isConnected) {
      if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) === 0) return;
      this.#isConnected = true;
      return this.#events.onConnected(socketError(this.#fd));
    }
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#isHangup = true;
    if (this.#wantsRoom && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0) {
      this.#wantsRoom = false;
      this.#stream?.onRoom();
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.onTurn();
  }

  /** There is room in the stream's tunnel again. */
  onRoom(): void {
    this.onTurn();
  }

  /** Socket → stream, until one side would block. */
  onTurn(): void {
    const stream = this.#stream;
    if (stream === null || this.#isReadEnded || this.#fd < 0) return;
    for (let turn = 0; turn < READS_PER_TURN; turn++) {
      const { tunnel } = stream;
      if (tunnel === null) return;
      const room = tunnel.reserve(stream);
      if (room === 0) return;
      const got = raw.read(this.#fd, tunnel.payloadAddress, room);
      if (got > 0) {
        tunnel.commit(stream, got);
        stream.sent += got;
        if (got < room && !this.#isHangup) return; // a short read emptied the socket
        continue;
      }
      if (got < 0) {
        const errno = lastErrno();
        if (errno === EAGAIN) return;
        if (errno === EINTR) continue;
      }
      this.#isReadEnded = true; // end of file; a reset ends this direction just as orderly
      stream.end();
      this.#events.onPassed();
      if (this.#isWriteDead) this.#events.onDead();
      return;
    }
    this.#reactor.again(this);
  }

  write(from: Buffer, offset: number, length: number): number {
    if (this.#isWriteDead || this.#fd < 0) return length;
    const put = raw.write(this.#fd, raw.addressOf(from) + offset, length);
    if (put === length) return put;
    if (put >= 0) {
      this.#wantsRoom = true;
      return put;
    }
    const errno = lastErrno();
    if (errno === EINTR) return this.write(from, offset, length);
    if (errno === EAGAIN) {
      this.#wantsRoom = true;
      return 0;
    }
    this.#isWriteDead = true;
    if (this.#isReadEnded) this.#events.onDead();
    return length;
  }

  end(): void {
    if (this.#fd >= 0 && !this.#isWriteDead) raw.shutdown(this.#fd, SHUT_WR);
  }

  /** Closes the socket. Idempotent. @param isCut the far end must not take the end for that of a message */
  close(isCut: boolean): void {
    if (this.#fd < 0) return;
    if (isCut) resetOnClose(this.#fd);
    this.#reactor.forget(this.#fd);
    raw.close(this.#fd);
    this.#fd = -1;
    this.#stream = null;
  }
}
