// One HBONE stream joined to something else that takes and gives bytes: another stream, or a plain socket. What
// arrives is handed on as it comes; what the other side cannot take is held, within the window the peer was granted.
// Hot path throughout: runs per chunk, allocates only when the other side is slow.
import { readScratch } from "#lib/hbone/buffers.ts";
import type { HboneError } from "#lib/hbone/errors.ts";
import { HboneStream } from "#lib/hbone/stream.ts";
import type { Tunnel } from "#lib/hbone/tunnel.ts";

/** Where the bytes of a stream go. */
export interface Outlet {
  /** Takes some of `from`, borrowed during the call; how many. When that is not all, the relay's `onRoom` follows. */
  write(from: Buffer, offset: number, length: number): number;
  /** Nothing more will be written. */
  end(): void;
}

/** Who sends through a stream and waits for room in it. */
export interface Inlet {
  onRoom(): void;
}

/** Least memory of a chunk that waits. */
const HELD_CHUNK = 16_384;

/** The tunnel owns the stream; whoever owns the other side ends both. */
export abstract class RelayStream extends HboneStream implements Outlet, Inlet {
  /** Payload bytes that came from this stream's peer. */
  received = 0;
  /** Payload bytes that went to it. */
  sent = 0;
  #outlet: Outlet | null = null;
  #inlet: Inlet | null = null;
  /** Bytes the other side has not taken yet, oldest first. */
  #held: Buffer[] | null = null;
  #heldBytes = 0;
  /** The tunnel whose backlog counts them, also after the stream has left it. */
  #heldFor: Tunnel | null = null;
  #isPassed = false;

  /** The peer has sent its last byte, and all of it has been handed on. Called at most once. */
  protected abstract onPassed(): void;

  /** From now on bytes go to `outlet`, what came earlier first, and `inlet` hears of room to send. */
  join(outlet: Outlet, inlet: Inlet): void {
    this.#outlet = outlet;
    this.#inlet = inlet;
    this.onRoom();
  }

  /** The other side can take bytes again. */
  onRoom(): void {
    const held = this.#held;
    const outlet = this.#outlet;
    if (outlet === null) return;
    if (held !== null) {
      for (let chunk = held[0]; chunk !== undefined; chunk = held[0]) {
        const taken = outlet.write(chunk, 0, chunk.length);
        this.#heldBytes -= taken;
        this.#release(taken);
        this.tunnel?.consumed(this, taken);
        if (taken < chunk.length) {
          held[0] = chunk.subarray(taken);
          return;
        }
        held.shift();
      }
      this.#held = null;
    }
    if (this.isRemoteEnded) this.#pass(outlet);
  }

  onData(offset: number, length: number): void {
    this.received += length;
    const outlet = this.#outlet;
    const scratch = readScratch();
    let taken = 0;
    if (outlet !== null && this.#held === null) {
      taken = outlet.write(scratch.bytes, offset, length);
      this.tunnel?.consumed(this, taken);
    }
    if (taken < length) this.#hold(scratch.bytes, offset + taken, length - taken);
  }

  onEnd(): void {
    if (this.#held === null && this.#outlet !== null) this.#pass(this.#outlet);
  }

  onTurn(): void {
    this.#inlet?.onRoom();
  }

  /** As the outlet of another stream: what fits goes into this one's tunnel. */
  write(from: Buffer, offset: number, length: number): number {
    const { tunnel } = this;
    if (tunnel === null) return length; // the stream is over, which its owner hears of by itself
    let done = 0;
    while (done < length) {
      const room = tunnel.reserve(this);
      if (room === 0) break;
      const part = room < length - done ? room : length - done;
      tunnel.commitCopy(this, from, offset + done, part);
      done += part;
    }
    this.sent += done;
    return done;
  }

  end(): void {
    this.tunnel?.endStream(this);
  }

  /** Ends the stream now; what is held is dropped. Idempotent. */
  abort(code: number): void {
    this.#held = null;
    this.#release(this.#heldBytes);
    this.#heldBytes = 0;
    this.#outlet = null;
    this.#inlet = null;
    this.tunnel?.resetStream(this, code);
  }

  /** Something is still to be handed on. */
  get isHolding(): boolean {
    return this.#held !== null;
  }

  abstract override onReset(code: number, error: HboneError | null): void;

  #pass(outlet: Outlet): void {
    if (this.#isPassed) return;
    this.#isPassed = true;
    outlet.end();
    this.onPassed();
  }

  #hold(from: Buffer, offset: number, length: number): void {
    this.#held ??= [];
    this.#append(this.#held, from, offset, length);
    this.#heldBytes += length;
    this.#heldFor = this.tunnel;
    this.tunnel?.hold(length);
  }

  /** Small pieces share a chunk: a peer that sends single bytes must not cost us an object for each. */
  #append(held: Buffer[], from: Buffer, offset: number, length: number): void {
    const last = held.at(-1);
    const start = last === undefined ? 0 : last.byteOffset + last.length;
    if (
      last !== undefined &&
      last.buffer.byteLength === HELD_CHUNK &&
      start + length <= HELD_CHUNK
    ) {
      from.copy(Buffer.from(last.buffer), start, offset, offset + length);
      held[held.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + length);
      return;
    }
    const chunk = Buffer.allocUnsafeSlow(Math.max(HELD_CHUNK, length));
    from.copy(chunk, 0, offset, offset + length);
    held.push(chunk.subarray(0, length));
  }

  #release(bytes: number): void {
    if (bytes > 0) this.#heldFor?.release(bytes);
  }
}
