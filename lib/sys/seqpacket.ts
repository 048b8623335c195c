// AF_UNIX SOCK_SEQPACKET with descriptor passing, under the normal event loop: the transport of ZDS.
// One datagram is one message; a descriptor travels as SCM_RIGHTS.
//   msghdr (64-bit): name 8 · namelen 4+4 · iov 8 · iovlen 8 · control 8 · controllen 8 · flags 4+4
//   cmsghdr: len 8 · level 4 · type 4 · data
import { chmodSync, rmSync } from "node:fs";
import { check, EAGAIN, EINTR, lastErrno, SysError } from "./errors.ts";
import { nativeBuffer } from "./memory.ts";
import * as raw from "./raw.ts";
import { bindingPath, placeSocket } from "./socket-path.ts";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const FLAGS = 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const MSG_NOSIGNAL = 0x4000;
const MSG_TRUNC = 0x20;
const MSG_CTRUNC = 0x08;
/** Both ends of ZDS receive into 1024 bytes; what is longer arrives truncated. */
export const MAX_DATAGRAM = 1024;
/** Room for surplus descriptors, so that they can be closed rather than leak. */
const MAX_FDS = 8;
const CONTROL_SIZE = 16 + 4 * MAX_FDS;

export interface Datagram {
  readonly bytes: Uint8Array;
  /** Owned by the receiver. */
  readonly fds: readonly number[];
  readonly truncated: boolean;
}

const HDR = nativeBuffer(56 + 16 + CONTROL_SIZE + MAX_DATAGRAM);
const IOV = 56;
const CONTROL = 72;
const DATA = CONTROL + CONTROL_SIZE;

export class SeqpacketConnection implements Disposable {
  readonly #fd: number;
  readonly #waiting: (() => void)[] = [];
  #unpoll: (() => void) | null = null;
  #isClosed = false;

  /** Takes the descriptor. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Sends one datagram, with a copy of `fd` if given (borrowed). @throws {SysError} EPIPE when the peer is gone, EAGAIN when it does not read */
  async send(bytes: Uint8Array, fd?: number): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const errno = this.#trySend(bytes, fd);
      if (errno === 0) return;
      if (errno !== EAGAIN && errno !== EINTR) throw new SysError("sendmsg", errno);
      if (attempt === 50) throw new SysError("sendmsg", EAGAIN);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** The next datagram; `null` at the end of the stream or after `close`. @throws {SysError}; the signal's reason when aborted */
  async receive(signal?: AbortSignal): Promise<Datagram | null> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#isClosed) return null;
      const got = this.#tryReceive();
      if (got !== "would block") return got;
      await this.#readable(signal);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#unpoll?.();
    this.#unpoll = null;
    raw.close(this.#fd);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #trySend(bytes: Uint8Array, fd: number | undefined): number {
    if (this.#isClosed) return 32; // EPIPE
    if (bytes.length > MAX_DATAGRAM) return 90; // EMSGSIZE
    const b = HDR.bytes;
    b.fill(0, 0, DATA);
    b.set(bytes, DATA);
    writeHeader(bytes.length, fd === undefined ? 0 : 24);
    if (fd !== undefined) {
      b.writeBigUInt64LE(20n, CONTROL);
      b.writeInt32LE(SOL_SOCKET, CONTROL + 8);
      b.writeInt32LE(SCM_RIGHTS, CONTROL + 12);
      b.writeInt32LE(fd, CONTROL + 16);
    }
    return raw.sendmsg(this.#fd, HDR.address, MSG_NOSIGNAL) < 0 ? lastErrno() : 0;
  }

  #tryReceive(): Datagram | null | "would block" {
    HDR.bytes.fill(0, 0, DATA);
    writeHeader(MAX_DATAGRAM, CONTROL_SIZE);
    const got = raw.recvmsg(this.#fd, HDR.address, MSG_CMSG_CLOEXEC);
    if (got < 0) {
      const errno = lastErrno();
      if (errno === EAGAIN || errno === EINTR) return "would block";
      if (errno === 104) return null;
      throw new SysError("recvmsg", errno);
    }
    const fds = receivedFds();
    const flags = HDR.bytes.readInt32LE(48);
    if (got === 0 && fds.length === 0) return null;
    return {
      bytes: Uint8Array.from(HDR.bytes.subarray(DATA, DATA + got)),
      fds,
      truncated: (flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0,
    };
  }

  #readable(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#unpoll?.();
        this.#unpoll = null;
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      signal?.addEventListener("abort", wake, { once: true });
      this.#waiting.push(wake);
      this.#unpoll ??= raw.pollReadable(this.#fd, () => {
        for (const w of this.#waiting.splice(0)) w();
      });
    });
  }
}

export class SeqpacketListener implements Disposable {
  readonly #fd: number;
  readonly #name: Disposable;
  #wake: (() => void) | null = null;
  #unpoll: (() => void) | null = null;
  #isClosed = false;

  /** Takes the descriptor, and its name in the file system. */
  constructor(fd: number, name: Disposable) {
    this.#fd = fd;
    this.#name = name;
  }

  /** The next connection; `null` after `close`. One caller at a time. */
  async accept(signal?: AbortSignal): Promise<SeqpacketConnection | null> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#isClosed) return null;
      const fd = raw.accept4(this.#fd, 0, 0, FLAGS);
      if (fd >= 0) return new SeqpacketConnection(fd);
      const errno = lastErrno();
      if (errno !== EAGAIN && errno !== EINTR && errno !== 103) throw new SysError("accept", errno);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#unpoll?.();
          this.#unpoll = null;
          signal?.removeEventListener("abort", wake);
          resolve();
        };
        this.#wake = wake;
        signal?.addEventListener("abort", wake, { once: true });
        this.#unpoll = raw.pollReadable(this.#fd, wake);
      });
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#wake?.();
    this.#name[Symbol.dispose]();
    raw.close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Listens at `path`; a socket file that is there is replaced, and who listens at it keeps what is connected.
 * @param mode  of the socket file
 * @throws {SysError}
 */
export function listenSeqpacket(path: string, mode = 0o600): SeqpacketListener {
  const bound = bindingPath(path);
  const fd = check("socket", raw.socket(AF_UNIX, SOCK_SEQPACKET | FLAGS, 0));
  try {
    const length = unixAddress(bound);
    check("bind", raw.bind(fd, HDR.address, length), bound);
    chmodSync(bound, mode);
    check("listen", raw.listen(fd, 16), bound);
    return new SeqpacketListener(fd, placeSocket(bound, path));
  } catch (error) {
    rmSync(bound, { force: true });
    raw.close(fd);
    throw error;
  }
}

/** Connects to `path`. @throws {SysError} ENOENT, ECONNREFUSED … */
export async function connectSeqpacket(path: string): Promise<SeqpacketConnection> {
  const fd = check("socket", raw.socket(AF_UNIX, SOCK_SEQPACKET | FLAGS, 0));
  for (let attempt = 0; ; attempt++) {
    const length = unixAddress(path);
    if (raw.connect(fd, HDR.address, length) >= 0) return new SeqpacketConnection(fd);
    const errno = lastErrno();
    // EAGAIN: the listener's backlog is full
    if (errno !== EAGAIN || attempt === 50) {
      raw.close(fd);
      throw new SysError("connect", errno, path);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function unixAddress(path: string): number {
  const length = Buffer.byteLength(path);
  if (length > 107) throw new SysError("bind", 36, `${path} (a socket path has at most 107 bytes)`);
  HDR.bytes.fill(0, 0, 112);
  HDR.bytes.writeUInt16LE(AF_UNIX, 0);
  HDR.bytes.write(path, 2, "utf8");
  return 2 + length + 1;
}

function writeHeader(dataLength: number, controlLength: number): void {
  const b = HDR.bytes;
  b.writeBigUInt64LE(BigInt(HDR.address + IOV), 16);
  b.writeBigUInt64LE(1n, 24);
  b.writeBigUInt64LE(controlLength === 0 ? 0n : BigInt(HDR.address + CONTROL), 32);
  b.writeBigUInt64LE(BigInt(controlLength), 40);
  b.writeBigUInt64LE(BigInt(HDR.address + DATA), IOV);
  b.writeBigUInt64LE(BigInt(dataLength), IOV + 8);
}

function receivedFds(): number[] {
  const b = HDR.bytes;
  const fds: number[] = [];
  const end = CONTROL + Number(b.readBigUInt64LE(40));
  for (let o = CONTROL; o + 16 <= end; ) {
    const length = Number(b.readBigUInt64LE(o));
    if (length < 16) break;
    if (b.readInt32LE(o + 8) === SOL_SOCKET && b.readInt32LE(o + 12) === SCM_RIGHTS)
      for (let at = o + 16; at + 4 <= Math.min(o + length, end); at += 4)
        fds.push(b.readInt32LE(at));
    o += (length + 7) & ~7;
  }
  return fds;
}
