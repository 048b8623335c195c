// An application socket joined to an HBONE stream: bytes from one to the other, half-closes and ends.
// Hot path throughout: runs per chunk, allocates only when the application is slow.
import { ERROR } from "#lib/wire/http2.ts";
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
} from "#lib/sys/reactor.ts";
import { resetOnClose } from "#lib/sys/socket.ts";
import { readScratch } from "#lib/hbone/buffers.ts";
import type { HboneError } from "#lib/hbone/errors.ts";
import { HboneStream } from "#lib/hbone/stream.ts";
import type { Tunnel } from "#lib/hbone/tunnel.ts";
import type { ByteCounts } from "./telemetry/connection.ts";

/** Reads of one socket before others get their turn. */
const READS_PER_TURN = 4;
const SHUT_WR = 1;
const IN = EPOLLIN | EPOLLRDHUP | EPOLLET;
const IN_AND_OUT = IN | EPOLLOUT;
/** Least memory of a chunk that waits for the application. */
const HELD_CHUNK = 16_384;

/** How a splice ended: both sides finished, or what broke it. */
export type SpliceEnd =
  | { readonly kind: "finished" }
  | { readonly kind: "reset"; readonly code: number; readonly error: HboneError | null };

const FINISHED: SpliceEnd = Object.freeze({ kind: "finished" });

/** Owns the application's socket; the tunnel owns the stream. */
export abstract class Splice extends HboneStream implements FdHandler, ByteCounts {
  /** The application's socket; -1 when there is none (yet, or any more). */
  fd = -1;
  bytesSent = 0;
  bytesReceived = 0;
  /** The application's socket was reset: the peer hears an orderly end all the same. */
  protected isAppReset = false;
  /** Bytes the application has not taken yet, oldest first. */
  #pending: Buffer[] | null = null;
  #pendingBytes = 0;
  /** The tunnel whose backlog counts them, also after the stream has left it. */
  #heldFor: Tunnel | null = null;
  #isReadEnded = false;
  #isWatched = false;
  /** The application takes no more: what still comes is dropped, and the stream ends with the other direction. */
  #isWriteDead = false;
  #isHangup = false;
  #isOver = false;
  protected readonly reactor: Reactor;

  constructor(reactor: Reactor) {
    super();
    this.reactor = reactor;
  }

  /** The splice has ended and its socket is closed. Called once. */
  protected abstract onOver(end: SpliceEnd): void;
  /** Bytes from the application go to the peer as sent by the local workload, or the other way round. */
  protected abstract countFromApp(length: number): void;
  protected abstract countToApp(length: number): void;

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Takes a socket from which nothing is expected yet. @param isConnecting `onReady` tells when that is over */
  protected watch(fd: number, isConnecting: boolean): void {
    this.fd = fd;
    this.#register(isConnecting ? IN_AND_OUT : IN);
  }

  /** Takes a connected socket that has probably something to say already. */
  protected readFirst(fd: number): void {
    this.fd = fd;
    this.reactor.again(this);
  }

  onReady(events: number): void {
    if (this.#isOver) return;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#isHangup = true;
    if (this.#pending !== null && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0) this.#drain();
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.onTurn();
  }

  onTurn(): void {
    this.#pump();
    // Registered before its first read, the descriptor would wake us for what has been read by then.
    if (!this.#isWatched && this.fd >= 0) this.#register(this.#pending === null ? IN : IN_AND_OUT);
  }

  /** Application → tunnel, until one side would block. */
  #pump(): void {
    const tunnel = this.tunnel;
    if (tunnel === null || !this.isEstablished || this.#isReadEnded) return;
    for (let turn = 0; turn < READS_PER_TURN; turn++) {
      const room = tunnel.reserve(this);
      if (room === 0) return;
      const got = raw.read(this.fd, tunnel.payloadAddress, room);
      if (got > 0) {
        tunnel.commit(this, got);
        this.countFromApp(got);
        if (got < room && !this.#isHangup) return; // a short read emptied the socket
        continue;
      }
      if (got < 0) {
        const errno = lastErrno();
        if (errno === EAGAIN) return;
        if (errno === EINTR) continue;
        if (errno === ECONNRESET) this.isAppReset = true;
      }
      return this.#endFromApp(); // end of file; a reset ends this direction just as orderly
    }
    this.reactor.again(this);
  }

  /** Tunnel → application. */
  onData(offset: number, length: number): void {
    this.countToApp(length);
    if (this.#isWriteDead) return this.#drop(length);
    if (this.#pending !== null || !this.isEstablished) return this.#hold(offset, length);
    const put = raw.write(this.fd, readScratch().address + offset, length);
    if (put === length) {
      this.tunnel?.consumed(this, length);
      return;
    }
    if (put < 0) {
      const errno = lastErrno();
      if (errno !== EAGAIN && errno !== EINTR) {
        if (errno === ECONNRESET) this.isAppReset = true;
        this.#isWriteDead = true;
        this.#drop(length);
        return this.#finishIfDone();
      }
      return this.#wait(offset, length);
    }
    this.tunnel?.consumed(this, put);
    this.#wait(offset + put, length - put);
  }

  onEnd(): void {
    if (this.#pending === null && this.isEstablished) this.#shutdownApp();
  }

  /** The application's socket is connected: hands on what the peer sent before the answer. */
  protected flushEarlyData(): void {
    if (this.#pending !== null) this.#drain();
    else if (this.isRemoteEnded) this.#shutdownApp();
  }

  onReset(code: number, error: HboneError | null): void {
    if (this.#isOver) return;
    const isOrderly = error === null && (code === ERROR.NO_ERROR || code === ERROR.CANCEL);
    if (!isOrderly) return this.finish({ kind: "reset", code, error });
    this.isRemoteEnded = true;
    this.#isReadEnded = true; // nothing more can be sent
    if (this.#pending === null) this.finish(FINISHED);
  }

  /**
   * Ends both directions now. Idempotent.
   * @param isCut the application must not take the end for that of a message: its connection is reset
   */
  protected finish(end: SpliceEnd, isCut = end.kind === "reset"): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#releaseBacklog(this.#pendingBytes);
    this.tunnel?.resetStream(this, ERROR.CANCEL);
    this.#pending = null;
    if (this.fd >= 0) {
      if (isCut) resetOnClose(this.fd);
      this.reactor.forget(this.fd);
      raw.close(this.fd);
      this.fd = -1;
    }
    this.onOver(end);
  }

  #register(events: number): void {
    this.#isWatched = true;
    this.reactor.add(this.fd, events, this);
  }

  #endFromApp(): void {
    this.#isReadEnded = true;
    const tunnel = this.tunnel;
    tunnel?.endStream(this);
    this.#finishIfDone();
  }

  #shutdownApp(): void {
    if (this.#isReadEnded && this.isRemoteEnded) return this.finish(FINISHED); // closing says as much
    if (!this.#isWriteDead && this.fd >= 0) raw.shutdown(this.fd, SHUT_WR);
    this.#finishIfDone();
  }

  /** Both directions are over: by their own ends, or because the application is gone and can take no more. */
  #finishIfDone(): void {
    if (!this.#isReadEnded || this.#pending !== null) return;
    if (this.isRemoteEnded || this.#isWriteDead) this.finish(FINISHED);
  }

  /** The application is slow: keeps the rest, and asks to be told of room. */
  #wait(offset: number, length: number): void {
    this.#hold(offset, length);
    if (this.#isWatched) this.reactor.modify(this.fd, IN_AND_OUT);
  }

  /** Keeps what the application cannot take; bounded by the window the peer was granted. */
  #hold(offset: number, length: number): void {
    this.#pending ??= [];
    this.#append(this.#pending, readScratch().bytes, offset, length);
    this.#pendingBytes += length;
    this.#heldFor = this.tunnel;
    this.tunnel?.hold(length);
  }

  /** Small pieces share a chunk: a peer that sends single bytes must not cost us an object for each. */
  #append(pending: Buffer[], from: Buffer, offset: number, length: number): void {
    const last = pending.at(-1);
    const start = last === undefined ? 0 : last.byteOffset + last.length;
    const isShared = last !== undefined && last.buffer.byteLength === HELD_CHUNK;
    if (isShared && start + length <= HELD_CHUNK) {
      from.copy(Buffer.from(last.buffer), start, offset, offset + length);
      pending[pending.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + length);
      return;
    }
    const chunk = Buffer.allocUnsafeSlow(Math.max(HELD_CHUNK, length));
    from.copy(chunk, 0, offset, offset + length);
    pending.push(chunk.subarray(0, length));
  }

  #drain(): void {
    const pending = this.#pending;
    if (pending === null) return;
    while (pending.length > 0) {
      const chunk = pending[0];
      if (chunk === undefined) break;
      const put = this.#isWriteDead
        ? chunk.length
        : raw.write(this.fd, raw.addressOf(chunk), chunk.length);
      if (put < 0) {
        const errno = lastErrno();
        if (errno === EAGAIN || errno === EINTR) return;
        if (errno === ECONNRESET) this.isAppReset = true;
        this.#isWriteDead = true;
        continue;
      }
      this.#pendingBytes -= put;
      this.#releaseBacklog(put);
      this.tunnel?.consumed(this, put);
      if (put < chunk.length) {
        pending[0] = chunk.subarray(put);
        return;
      }
      pending.shift();
    }
    this.#pending = null;
    if (this.isRemoteEnded) this.#shutdownApp();
    else this.#finishIfDone();
  }

  #drop(length: number): void {
    this.tunnel?.consumed(this, length);
  }

  #releaseBacklog(bytes: number): void {
    if (bytes > 0) this.#heldFor?.release(bytes);
  }
}
