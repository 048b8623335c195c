// Makes inputs: a corpus entry, changed a few times, or plain noise. Everything follows from the seed.
import type { RandomUint32 } from "#lib/wire/traceparent.ts";

/** Lengths, signs and limits that parsers get wrong. */
const EDGE_OCTETS = [0x00, 0x01, 0x0a, 0x1f, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xff];
const EDGE_WORDS = [0, 1, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const MAX_CHANGES = 6;
const NOISE_SHARE = 0.05;

export class Mutator {
  readonly #random: RandomUint32;
  readonly #words: readonly Uint8Array[];
  readonly #maxBytes: number;

  /** @param maxBytes bound on every input made */
  constructor(random: RandomUint32, words: readonly string[], maxBytes: number) {
    this.#random = random;
    this.#words = words.map((word) => Buffer.from(word, "utf8"));
    this.#maxBytes = maxBytes;
  }

  /** A new input; `corpus` is only read. */
  next(corpus: readonly Uint8Array[]): Uint8Array {
    if (corpus.length === 0 || this.#random() < NOISE_SHARE * 2 ** 32) return this.#noise();
    let bytes: Buffer = Buffer.from(corpus[this.#below(corpus.length)]!);
    for (let changes = 1 + this.#below(MAX_CHANGES); changes > 0; changes--)
      bytes = this.#change(bytes, corpus);
    return bytes.length > this.#maxBytes ? bytes.subarray(0, this.#maxBytes) : bytes;
  }

  #noise(): Buffer {
    const bytes = Buffer.alloc(this.#below(64));
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.#random();
    return bytes;
  }

  #change(bytes: Buffer, corpus: readonly Uint8Array[]): Buffer {
    const at = this.#below(bytes.length + 1);
    const end = Math.min(bytes.length, at + 1 + this.#below(this.#below(4) === 0 ? 256 : 8));
    switch (this.#below(11)) {
      case 0: // flip a bit
        if (at < bytes.length) bytes[at]! ^= 1 << this.#below(8);
        return bytes;
      case 1:
        if (at < bytes.length) bytes[at] = this.#random();
        return bytes;
      case 2:
        if (at < bytes.length) bytes[at] = EDGE_OCTETS[this.#below(EDGE_OCTETS.length)]!;
        return bytes;
      case 3: // up or down by a little
        if (at < bytes.length) bytes[at]! += this.#below(9) - 4;
        return bytes;
      case 4:
        this.#writeWord(bytes, at);
        return bytes;
      case 5: // remove
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
      case 6: // cut off
        return bytes.subarray(0, at);
      case 7: // repeat a piece, sometimes very often
        return this.#repeat(bytes, at, end);
      case 8: // insert noise
        return Buffer.concat([bytes.subarray(0, at), this.#noise(), bytes.subarray(at)]);
      case 9: // insert a word of the format, or an edge octet
        return Buffer.concat([bytes.subarray(0, at), this.#word(), bytes.subarray(at)]);
      default: // go on as another entry does
        return this.#splice(bytes, at, corpus);
    }
  }

  #writeWord(bytes: Buffer, at: number): void {
    const word = EDGE_WORDS[this.#below(EDGE_WORDS.length)]!;
    if (at + 4 <= bytes.length && this.#below(2) === 0) bytes.writeUInt32BE(word, at);
    else if (at + 2 <= bytes.length) bytes.writeUInt16BE(word & 0xffff, at);
  }

  #repeat(bytes: Buffer, at: number, end: number): Buffer {
    const piece = bytes.subarray(at, end);
    const most = this.#below(8) === 0 ? 2000 : 8;
    const room = Math.max(0, this.#maxBytes - bytes.length);
    const times = Math.min(1 + this.#below(most), Math.floor(room / Math.max(1, piece.length)));
    const pieces = Array.from({ length: times }, () => piece);
    return Buffer.concat([bytes.subarray(0, at), ...pieces, bytes.subarray(at)]);
  }

  #word(): Uint8Array {
    if (this.#words.length === 0) return Buffer.of(EDGE_OCTETS[this.#below(EDGE_OCTETS.length)]!);
    return this.#words[this.#below(this.#words.length)]!;
  }

  #splice(bytes: Buffer, at: number, corpus: readonly Uint8Array[]): Buffer {
    const other = corpus[this.#below(corpus.length)]!;
    return Buffer.concat([bytes.subarray(0, at), other.subarray(this.#below(other.length + 1))]);
  }

  /** Uniform enough in [0, limit); 0 for a limit of 0. */
  #below(limit: number): number {
    return limit <= 1 ? 0 : this.#random() % limit;
  }
}
