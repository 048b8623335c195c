// Two sockets joined without a tunnel: plaintext to what is outside the mesh, and plaintext from it.
import { EAGAIN, ECONNRESET, EINTR, lastErrno } from "#lib/sys/errors.ts";
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
  type Timer,
} from "#lib/sys/reactor.ts";
import { socketError } from "#lib/sys/socket.ts";
import { readScratch } from "#lib/hbone/buffers.ts";
import { CONNECT_TIMEOUT_MS } from "#lib/hbone/limits.ts";
import type { ByteCounts } from "./telemetry/connection.ts";

const CHUNK = 65_536;
const READS_PER_TURN = 4;
const SHUT_WR = 1;

export interface TcpSpliceEvents {
  /** Both sockets are connected; bytes flow from now. */
  onConnected(): void;
  /** Over; `errno` of a failed connect, 0 otherwise, -1 for no answer in time. Sockets are closed. Called once. */
  onOver(connectErrno: number): void;
}

/** Owns both sockets. `near` is the accepted one, `far` the one being connected. */
export class TcpSplice implements ByteCounts {
  readonly #reactor: Reactor;
  readonly #events: TcpSpliceEvents;
  readonly #near: Side;
  readonly #far: Side;
  readonly #isNearLocal: boolean;
  #timer: Timer | null;
  #isConnected = false;
  #isClientReset = false;
  #isOver = false;

  /** @param isNearLocal whether the accepted socket is the local workload's (outbound) */
  constructor(
    reactor: Reactor,
    near: number,
    far: number,
    isNearLocal: boolean,
    events: TcpSpliceEvents,
  ) {
    this.#reactor = reactor;
    this.#events = events;
    this.#isNearLocal = isNearLocal;
    this.#near = new Side(this, near);
    this.#far = new Side(this, far);
    this.#near.peer = this.#far;
    this.#far.peer = this.#near;
    this.#timer = reactor.after(CONNECT_TIMEOUT_MS, () => this.#end(-1));
    reactor.add(far, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this.#far);
  }

  get bytesSent(): number {
    return this.#isNearLocal ? this.#near.moved : this.#far.moved;
  }

  get bytesReceived(): number {
    return this.#isNearLocal ? this.#far.moved : this.#near.moved;
  }

  get reactor(): Reactor {
    return this.#reactor;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Whoever opened the connection, on this node or another, has reset it. */
  get isClientReset(): boolean {
    return this.#isClientReset;
  }

  /** Ends both directions now. Idempotent. */
  close(): void {
    this.#end(0);
  }

  /** The far socket became writable or failed for the first time. */
  connected(): void {
    const errno = socketError(this.#far.fd);
    if (errno !== 0) return this.#end(errno);
    this.#isConnected = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#events.onConnected();
    if (this.#isOver) return;
    this.#reactor.add(this.#near.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this.#near);
    this.#reactor.again(this.#near);
    this.#reactor.again(this.#far);
  }

  /** A socket failed: its direction ends as orderly as by its own end. */
  lost(side: Side, errno: number): void {
    if (side === this.#near && errno === ECONNRESET) this.#isClientReset = true;
  }

  endIfDone(): void {
    if (this.#near.isDone && this.#far.isDone) this.#end(0);
  }

  #end(connectErrno: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    for (const side of [this.#near, this.#far]) {
      side.isClosed = true;
      this.#reactor.forget(side.fd);
      raw.close(side.fd);
    }
    this.#events.onOver(connectErrno);
  }
}

/** One socket and the bytes read from it on their way to the other. */
class Side implements FdHandler, Task {
  isQueued = false;
  isClosed = false;
  readonly fd: number;
  /** Bytes read here and passed on. */
  moved = 0;
  /** Everything read here has been written to the peer, and its end too. */
  isDone = false;
  peer: Side | null = null;
  readonly #splice: TcpSplice;
  /** Read here, not yet taken by the peer. One chunk at most: then reading stops. */
  #rest: Buffer | null = null;
  #isHangup = false;

  constructor(splice: TcpSplice, fd: number) {
    this.#splice = splice;
    this.fd = fd;
  }

  onReady(events: number): void {
    if (this.isClosed) return;
    if (!this.#splice.isConnected) {
      if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0) this.#splice.connected();
      return;
    }
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#isHangup = true;
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0) this.peer?.resume();
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.onTurn();
  }

  /** Hot path: moves bytes from this socket to the peer's until one would block. */
  onTurn(): void {
    const to = this.peer;
    if (
      to === null ||
      this.isClosed ||
      this.isDone ||
      this.#rest !== null ||
      !this.#splice.isConnected
    )
      return;
    const scratch = readScratch();
    for (let turn = 0; turn < READS_PER_TURN; turn++) {
      const got = raw.read(this.fd, scratch.address, CHUNK);
      if (got > 0) {
        this.moved += got;
        if (!this.#pass(scratch.address, got, scratch.bytes)) return;
        if (got < CHUNK && !this.#isHangup) return;
        continue;
      }
      if (got < 0) {
        const errno = lastErrno();
        if (errno === EAGAIN) return;
        if (errno === EINTR) continue;
        this.#splice.lost(this, errno);
      }
      return this.#ended();
    }
    this.#splice.reactor.again(this);
  }

  /** The peer can take bytes again. */
  resume(): void {
    const rest = this.#rest;
    if (rest === null || this.isClosed) return;
    this.#rest = null;
    if (this.#pass(raw.addressOf(rest), rest.length, rest)) this.onTurn();
  }

  #pass(address: number, length: number, bytes: Buffer): boolean {
    const to = this.peer;
    if (to === null) return false;
    const put = raw.write(to.fd, address, length);
    if (put === length) return true;
    const errno = put < 0 ? lastErrno() : 0;
    if (put < 0 && errno !== EAGAIN && errno !== EINTR) {
      this.#splice.lost(to, errno);
      this.#ended();
      return false;
    }
    this.#rest = Buffer.from(bytes.subarray(Math.max(0, put), length));
    return false;
  }

  #ended(): void {
    if (this.isDone) return;
    this.isDone = true;
    if (this.peer !== null) raw.shutdown(this.peer.fd, SHUT_WR);
    this.#splice.endIfDone();
  }
}
