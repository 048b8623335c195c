// A client connection of the load programs: opens without blocking and tells when it is connected.
import type { SocketAddr } from "#lib/net/ip.ts";
import { EAGAIN, lastErrno } from "#lib/sys/errors.ts";
import * as raw from "#lib/sys/raw.ts";
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  type Reactor,
  type FdHandler,
} from "#lib/sys/reactor.ts";
import { connectFd, socketError, tcpSocket } from "#lib/sys/socket.ts";

export { EAGAIN };

export abstract class LoadSocket implements FdHandler {
  readonly fd: number;
  protected readonly reactor: Reactor;
  #isConnected = false;

  /** @throws {SysError} when the machine has no descriptor or port left */
  constructor(reactor: Reactor, target: SocketAddr) {
    this.reactor = reactor;
    this.fd = tcpSocket({ family: "ipv4" });
    connectFd(this.fd, target);
    reactor.add(this.fd, EPOLLOUT, this);
  }

  /** May write; ask for the events it wants with `listenFor`. */
  protected abstract onConnected(): void;
  protected abstract onReadable(): void;
  protected onWritable(): void {}
  /** Refused, reset or ended; the descriptor is closed after it. */
  protected abstract onFailed(): void;

  onReady(events: number): void {
    if (!this.#isConnected) {
      if (socketError(this.fd) !== 0) return this.fail();
      this.#isConnected = true;
      return this.onConnected();
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) !== 0) return this.onReadable();
    if ((events & EPOLLOUT) !== 0) this.onWritable();
  }

  protected listenFor(events: number): void {
    this.reactor.modify(this.fd, events);
  }

  /** Bytes taken, 0 when the peer takes none now; -1 after it failed. */
  protected write(address: number, length: number): number {
    const put = raw.write(this.fd, address, length);
    if (put >= 0) return put;
    if (lastErrno() === EAGAIN) return 0;
    this.fail();
    return -1;
  }

  /** Bytes read, 0 when there are none now; -1 after the end of input or a failure. */
  protected read(address: number, length: number): number {
    const got = raw.read(this.fd, address, length);
    if (got > 0) return got;
    if (got < 0 && lastErrno() === EAGAIN) return 0;
    this.fail();
    return -1;
  }

  protected fail(): void {
    this.onFailed();
    this.close();
  }

  close(): void {
    this.reactor.forget(this.fd);
    raw.close(this.fd);
  }
}
