// HPACK decoder (RFC 7541): one complete header block in, one call per header field out.
// One instance per connection; it holds the dynamic table the peer's encoder steers.
import { HpackError } from "./errors.ts";
import { DynamicTable, ENTRY_OVERHEAD } from "./hpack-dynamic-table.ts";
import { STATIC_COUNT, STATIC_NAMES, STATIC_VALUES } from "./hpack-static-table.ts";
import { huffmanDecode } from "./huffman.ts";

/** SETTINGS_HEADER_TABLE_SIZE before any SETTINGS frame (RFC 9113 §6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;

/**
 * One field, strings byte for byte as latin1. `sensitive` marks "never indexed" (RFC 7541 §6.2.3).
 * Must not throw: the rest of the block would be lost, and with it the table.
 */
export type OnHeader = (name: string, value: string, sensitive: boolean) => void;

export interface HpackLimits {
  /** Bound on the sum of name + value + 32 over all fields (RFC 9113 §6.5.2, MAX_HEADER_LIST_SIZE). */
  readonly maxListBytes: number;
}

/** Continuation octets of an integer that we accept: 28 bits beyond the prefix. */
const MAX_INTEGER_SHIFT = 28;

/** Hot path: runs per CONNECT. */
export class HpackDecoder {
  readonly #table: DynamicTable;
  /** What we allow the peer: our SETTINGS_HEADER_TABLE_SIZE, once acknowledged. */
  #allowedTableBytes: number;
  /** We lowered the setting below the table's size, so the next block has to open with an update to this or less (§4.2). */
  #mustShrinkTo = Number.POSITIVE_INFINITY;
  /** Read position within the block of the running `decode`. */
  #pos = 0;

  /** @param options.maxTableSize the size both ends start from, in octets; changed later by `setMaxTableSize` */
  constructor(options: { readonly maxTableSize?: number } = {}) {
    this.#allowedTableBytes = options.maxTableSize ?? DEFAULT_TABLE_BYTES;
    this.#table = new DynamicTable(this.#allowedTableBytes);
  }

  /** Octets held in the dynamic table. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** Tells of a new SETTINGS_HEADER_TABLE_SIZE of ours; call when the peer acknowledges it. */
  setMaxTableSize(bytes: number): void {
    this.#allowedTableBytes = bytes;
    if (bytes < this.#table.maxBytes) this.#mustShrinkTo = Math.min(this.#mustShrinkTo, bytes);
  }

  /**
   * Decodes the complete header block `block[start, end)` (HEADERS plus its CONTINUATIONs).
   * Fields already delivered stay delivered when a later one is bad.
   * @param block borrowed; the strings handed out are copies
   * @throws {HpackError} the connection has to end, `LIST_TOO_LARGE` included
   */
  decode(
    block: Uint8Array,
    start: number,
    end: number,
    limits: HpackLimits,
    onHeader: OnHeader,
  ): void {
    const bytes = Buffer.isBuffer(block)
      ? block
      : Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    const table = this.#table;
    this.#pos = start;
    this.#readSizeUpdates(bytes, end);
    let room = limits.maxListBytes;
    while (this.#pos < end) {
      const first = bytes[this.#pos]!;
      room -= ENTRY_OVERHEAD;
      let name: string;
      let value: string;
      if (first >= 0x80) {
        const index = this.#readInteger(bytes, end, 0x7f);
        name = this.#nameAt(index);
        value =
          index <= STATIC_COUNT ? STATIC_VALUES[index]! : table.valueAt(index - STATIC_COUNT - 1);
        room -= name.length + value.length;
        if (room < 0) throw listTooLarge(limits);
        onHeader(name, value, false);
        continue;
      }
      if (first >= 0x20 && first < 0x40)
        throw new HpackError("TABLE_SIZE", "Dynamic table size update after a header field");
      const index = this.#readInteger(bytes, end, first >= 0x40 ? 0x3f : 0x0f);
      name = index === 0 ? this.#readString(bytes, end, room) : this.#nameAt(index);
      room -= name.length;
      if (room < 0) throw listTooLarge(limits);
      value = this.#readString(bytes, end, room);
      room -= value.length;
      if (first >= 0x40) table.add(name, value);
      onHeader(name, value, first >= 0x10 && first < 0x20);
    }
  }

  /** At most two updates may open a block: the smallest size since the last one, then the final one (§4.2). */
  #readSizeUpdates(bytes: Buffer, end: number): void {
    for (let updates = 0; this.#pos < end && (bytes[this.#pos]! & 0xe0) === 0x20; updates++) {
      if (updates === 2)
        throw new HpackError("TABLE_SIZE", "More than two dynamic table size updates in a block");
      const size = this.#readInteger(bytes, end, 0x1f);
      const allowed = Math.min(this.#allowedTableBytes, this.#mustShrinkTo);
      if (size > allowed)
        throw new HpackError(
          "TABLE_SIZE",
          `Dynamic table size update to ${size}, allowed ${allowed}`,
        );
      this.#table.resize(size);
      this.#mustShrinkTo = Number.POSITIVE_INFINITY;
    }
    if (this.#mustShrinkTo !== Number.POSITIVE_INFINITY)
      throw new HpackError(
        "TABLE_SIZE",
        `No dynamic table size update after the setting fell to ${this.#mustShrinkTo}`,
      );
  }

  #nameAt(index: number): string {
    if (index === 0) throw new HpackError("INDEX", "Header field index 0");
    if (index <= STATIC_COUNT) return STATIC_NAMES[index]!;
    const age = index - STATIC_COUNT - 1;
    if (age >= this.#table.count)
      throw new HpackError(
        "INDEX",
        `Header field index ${index}, the tables hold ${STATIC_COUNT + this.#table.count}`,
      );
    return this.#table.nameAt(age);
  }

  /** RFC 7541 §5.1. The caller has checked that one octet is there. */
  #readInteger(bytes: Buffer, end: number, prefix: number): number {
    let value = bytes[this.#pos++]! & prefix;
    if (value < prefix) return value;
    for (let shift = 0; shift < MAX_INTEGER_SHIFT; shift += 7) {
      if (this.#pos >= end) throw truncated();
      const octet = bytes[this.#pos++]!;
      value += (octet & 0x7f) << shift;
      if (octet < 0x80) return value;
    }
    throw new HpackError("INTEGER", "Integer of more than four continuation octets");
  }

  /** RFC 7541 §5.2. Stops before making a string of more than `room` octets. */
  #readString(bytes: Buffer, end: number, room: number): string {
    if (this.#pos >= end) throw truncated();
    const isHuffman = bytes[this.#pos]! >= 0x80;
    const length = this.#readInteger(bytes, end, 0x7f);
    const from = this.#pos;
    if (length > end - from) throw truncated();
    this.#pos = from + length;
    if (isHuffman) return huffmanDecode(bytes, from, this.#pos, room);
    if (length > room)
      throw new HpackError(
        "LIST_TOO_LARGE",
        `Header string of ${length} octets, ${Math.max(0, room)} left`,
      );
    return length === 0 ? "" : bytes.toString("latin1", from, this.#pos);
  }
}

function truncated(): HpackError {
  return new HpackError("TRUNCATED", "Header block ends inside a field");
}

function listTooLarge(limits: HpackLimits): HpackError {
  return new HpackError(
    "LIST_TOO_LARGE",
    `Header list is larger than ${limits.maxListBytes} octets`,
  );
}
