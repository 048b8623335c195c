// HPACK encoder (RFC 7541) for the few headers of CONNECT requests and responses. Values that repeat on a
// tunnel (authority, baggage) cost one octet from the second time on. Strings go out plain: Huffman would
// save a third of the first request only, and cost time on every one.
import { HpackError } from "./errors.ts";
import { DEFAULT_TABLE_BYTES } from "./hpack-decoder.ts";
import { DynamicTable, ENTRY_OVERHEAD } from "./hpack-dynamic-table.ts";
import {
  STATIC_COUNT,
  STATIC_NAME_INDEX,
  STATIC_NAMES,
  STATIC_VALUES,
} from "./hpack-static-table.ts";

export type HeaderList = readonly (readonly [name: string, value: string])[];

/** Their values differ on every connection: the table keeps at most one, so that the name has an index. */
const UNREPEATED: ReadonlySet<string> = new Set(["traceparent", "forwarded"]);

/** Representation octets and prefix masks (RFC 7541 §6). */
const INDEXED = 0x80;
const LITERAL_INDEXED = 0x40;
const LITERAL_PLAIN = 0x00;
const SIZE_UPDATE = 0x20;

/** An integer takes a prefix octet and at most four more here; a field has up to three of them. */
const MAX_INTEGER_BYTES = 5;
const FIELD_OVERHEAD = 3 * MAX_INTEGER_BYTES;

/** Larger strings stay out of the table: one of them would evict everything else. */
const MAX_INDEXED_SHARE = 0.5;

/** Hot path: runs per CONNECT. */
export class HpackEncoder {
  readonly #table: DynamicTable;
  readonly #capBytes: number;
  /** Sizes the next block has to announce (§4.2); -1 when there is nothing to say. */
  #smallestUnsent = -1;
  #finalUnsent = -1;
  #pos = 0;

  /** @param options.maxTableSize what we are willing to spend, whatever the peer offers, in octets */
  constructor(options: { readonly maxTableSize?: number } = {}) {
    this.#capBytes = options.maxTableSize ?? DEFAULT_TABLE_BYTES;
    this.#table = new DynamicTable(DEFAULT_TABLE_BYTES);
    if (this.#capBytes < DEFAULT_TABLE_BYTES) this.setMaxTableSize(DEFAULT_TABLE_BYTES);
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; call before the SETTINGS are acknowledged. */
  setMaxTableSize(bytes: number): void {
    const size = Math.min(bytes, this.#capBytes);
    if (size === this.#table.maxBytes && this.#finalUnsent < 0) return;
    this.#table.resize(size);
    this.#smallestUnsent = this.#smallestUnsent < 0 ? size : Math.min(this.#smallestUnsent, size);
    this.#finalUnsent = size;
  }

  /** Room that `encode` asks for; an upper bound, not the size. */
  static maxBytes(headers: HeaderList): number {
    let bytes = 2 * MAX_INTEGER_BYTES;
    for (let i = 0; i < headers.length; i++)
      bytes += headers[i]![0].length + headers[i]![1].length + FIELD_OVERHEAD;
    return bytes;
  }

  /**
   * Writes one header block at `out[offset…]`. Blocks must reach the peer in the order they were encoded.
   * @param headers lower-case names, pseudo headers first; characters beyond latin1 go out as their low octet
   * @returns the offset behind the block
   * @throws {HpackError} `OUT_OF_SPACE` when `out` has fewer than `maxBytes(headers)` octets left
   */
  encode(headers: HeaderList, out: Uint8Array, offset: number): number {
    if (out.length - offset < HpackEncoder.maxBytes(headers))
      throw new HpackError(
        "OUT_OF_SPACE",
        `Header block may need ${HpackEncoder.maxBytes(headers)} octets, ${out.length - offset} are free`,
      );
    const bytes = Buffer.isBuffer(out)
      ? out
      : Buffer.from(out.buffer, out.byteOffset, out.byteLength);
    this.#pos = offset;
    if (this.#finalUnsent >= 0) this.#writeSizeUpdates(bytes);
    for (let i = 0; i < headers.length; i++)
      this.#writeField(bytes, headers[i]![0], headers[i]![1]);
    return this.#pos;
  }

  #writeSizeUpdates(bytes: Buffer): void {
    if (this.#smallestUnsent < this.#finalUnsent)
      this.#writeInteger(bytes, SIZE_UPDATE, 0x1f, this.#smallestUnsent);
    this.#writeInteger(bytes, SIZE_UPDATE, 0x1f, this.#finalUnsent);
    this.#smallestUnsent = -1;
    this.#finalUnsent = -1;
  }

  #writeField(bytes: Buffer, name: string, value: string): void {
    let nameIndex = STATIC_NAME_INDEX.get(name) ?? 0;
    for (let i = nameIndex; i !== 0 && i <= STATIC_COUNT && STATIC_NAMES[i] === name; i++)
      if (STATIC_VALUES[i] === value && value !== "")
        return this.#writeInteger(bytes, INDEXED, 0x7f, i);
    const table = this.#table;
    for (let age = 0; age < table.count; age++) {
      if (table.nameAt(age) !== name) continue;
      if (table.valueAt(age) === value)
        return this.#writeInteger(bytes, INDEXED, 0x7f, STATIC_COUNT + 1 + age);
      if (nameIndex === 0) nameIndex = STATIC_COUNT + 1 + age;
    }
    const cost = name.length + value.length + ENTRY_OVERHEAD;
    const isWorthIndexing =
      cost <= table.maxBytes * MAX_INDEXED_SHARE && (nameIndex === 0 || !UNREPEATED.has(name));
    if (isWorthIndexing) this.#writeInteger(bytes, LITERAL_INDEXED, 0x3f, nameIndex);
    else this.#writeInteger(bytes, LITERAL_PLAIN, 0x0f, nameIndex);
    if (nameIndex === 0) this.#writeString(bytes, name);
    this.#writeString(bytes, value);
    if (isWorthIndexing) table.add(name, value);
  }

  #writeString(bytes: Buffer, text: string): void {
    this.#writeInteger(bytes, 0, 0x7f, text.length);
    bytes.write(text, this.#pos, text.length, "latin1");
    this.#pos += text.length;
  }

  #writeInteger(bytes: Buffer, pattern: number, prefix: number, value: number): void {
    if (value < prefix) {
      bytes[this.#pos++] = pattern | value;
      return;
    }
    bytes[this.#pos++] = pattern | prefix;
    let rest = value - prefix;
    for (; rest >= 0x80; rest >>>= 7) bytes[this.#pos++] = (rest & 0x7f) | 0x80;
    bytes[this.#pos++] = rest;
  }
}
