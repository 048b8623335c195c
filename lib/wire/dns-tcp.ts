// DNS over TCP (RFC 1035 §4.2.2, RFC 7766 §8): messages behind a 16-bit length, cut as the stream likes.

const LENGTH_BYTES = 2;
export const MAX_TCP_MESSAGE_BYTES = 65_535;

/** Puts the length in front. */
export function frameTcpMessage(message: Uint8Array): Uint8Array {
  const out = new Uint8Array(LENGTH_BYTES + message.length);
  out[0] = message.length >>> 8;
  out[1] = message.length;
  out.set(message, LENGTH_BYTES);
  return out;
}

/** Cuts one direction of a connection into messages. Holds less than one message between calls, unless told to stop earlier. */
export class DnsTcpReader {
  /** Octets of an incomplete message in `[0, #length)`. Doubles as it fills, up to the largest message. */
  #pending = Buffer.alloc(0);
  #length = 0;

  /**
   * @param max  complete messages beyond it stay for the next call, for which an empty chunk will do
   * @returns every message that is now complete, in order; copies
   */
  push(chunk: Uint8Array, max = Infinity): Uint8Array[] {
    this.#append(chunk);
    const messages: Uint8Array[] = [];
    let at = 0;
    while (messages.length < max && this.#length - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + this.#pending.readUInt16BE(at);
      if (end > this.#length) break;
      messages.push(Uint8Array.from(this.#pending.subarray(at + LENGTH_BYTES, end)));
      at = end;
    }
    if (at === this.#length) this.#pending = Buffer.alloc(0);
    else if (at > 0) this.#pending = Buffer.from(this.#pending.subarray(at, this.#length));
    this.#length -= at;
    return messages;
  }

  /** Whether the stream stands in the middle of a message. */
  get isMidMessage(): boolean {
    return this.#length > 0;
  }

  #append(chunk: Uint8Array): void {
    const length = this.#length + chunk.length;
    if (length > this.#pending.length) {
      const grown = Buffer.alloc(Math.max(length, this.#pending.length * 2));
      this.#pending.copy(grown, 0, 0, this.#length);
      this.#pending = grown;
    }
    this.#pending.set(chunk, this.#length);
    this.#length = length;
  }
}
