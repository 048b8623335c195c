// Where every log line of a process ends up: a bounded queue in front of one descriptor, written in
// batches. A slow reader first fills the queue, then blocks the writers; no line is ever dropped.
import { closeSync, constants, openSync, writeSync } from "node:fs";

/** Lines that may wait while the reader of the log is slow. */
const MAX_LINES = 10_000;
/** Lines joined into one write. */
const BATCH_LINES = 64;
/** How soon a full pipe is tried again. */
const RETRY_MS = 5;

export interface LogSinkOptions {
  /** Written to, never closed. */
  readonly fd: number;
  readonly maxLines?: number;
}

/** Owns its queue and timer; borrows the descriptor. */
export class LogSink implements Disposable {
  readonly #fd: number;
  /** Ours, non-blocking, on the same file as the borrowed one; -1 when it could not be opened again. */
  readonly #nonBlocking: number;
  readonly #maxLines: number;
  /** Each entry holds whole lines. */
  #queue: { readonly bytes: Buffer; readonly lines: number }[] = [];
  #head = 0;
  /** Bytes of the first entry that are already out. */
  #written = 0;
  #lines = 0;
  #scheduled = false;
  #closed = false;

  constructor(options: LogSinkOptions) {
    this.#fd = options.fd;
    this.#maxLines = options.maxLines ?? MAX_LINES;
    this.#nonBlocking = openAgain(options.fd);
  }

  /** Lines waiting to be written. */
  get waiting(): number {
    return this.#lines;
  }

  /** Takes one or more whole lines, newline included. Blocks the thread while the queue is full. */
  write(text: string | Uint8Array): void {
    if (text.length === 0) return;
    const bytes = typeof text === "string" ? Buffer.from(text) : viewOf(text);
    let lines = 0;
    for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) lines++;
    this.#queue.push({ bytes, lines });
    this.#lines += lines;
    if (this.#closed) return this.flush();
    if (this.#lines >= this.#maxLines) this.#block(this.#maxLines - 1);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#turn);
  }

  /** Writes everything that waits, blocking the thread until it is out. */
  flush(): void {
    this.#block(0);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    if (this.#nonBlocking >= 0) closeSync(this.#nonBlocking);
  }

  readonly #turn = (): void => {
    this.#scheduled = !this.#pump();
    if (this.#scheduled) setTimeout(this.#turn, RETRY_MS);
  };

  #block(untilLines: number): void {
    const nap = new Int32Array(new SharedArrayBuffer(4));
    while (this.#lines > untilLines && !this.#pump()) Atomics.wait(nap, 0, 0, 1);
  }

  /** Writes until the queue is empty (true) or the reader is behind (false). */
  #pump(): boolean {
    while (this.#head < this.#queue.length) {
      const batch = this.#batch();
      let put: number;
      try {
        put = writeSync(
          this.#nonBlocking >= 0 && !this.#closed ? this.#nonBlocking : this.#fd,
          batch,
        );
      } catch (error) {
        if (codeOf(error) === "EAGAIN") return false;
        put = batch.length; // nobody reads any more (EPIPE, a full disk): logging must not end the mesh
      }
      this.#advance(put);
      if (put < batch.length) return false;
    }
    this.#queue = [];
    this.#head = 0;
    return true;
  }

  #batch(): Buffer {
    const parts: Buffer[] = [];
    let lines = 0;
    for (let i = this.#head; i < this.#queue.length && lines < BATCH_LINES; i++) {
      const entry = this.#queue[i];
      if (entry === undefined) break;
      parts.push(i === this.#head ? entry.bytes.subarray(this.#written) : entry.bytes);
      lines += entry.lines;
    }
    return parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
  }

  #advance(put: number): void {
    let left = put + this.#written;
    for (;;) {
      const entry = this.#queue[this.#head];
      if (entry === undefined || left < entry.bytes.length) break;
      left -= entry.bytes.length;
      this.#lines -= entry.lines;
      this.#head++;
    }
    this.#written = left;
    if (this.#head > 1024) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** A description of our own, so that O_NONBLOCK does not reach others who hold the same pipe or terminal. */
function openAgain(fd: number): number {
  try {
    return openSync(
      `/proc/self/fd/${fd}`,
      constants.O_WRONLY | constants.O_NONBLOCK | constants.O_APPEND,
    );
  } catch {
    return -1; // a socket, or no /proc: writes then block, which is correct too
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
