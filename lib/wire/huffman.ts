// Huffman strings of RFC 7541 §5.2 and Appendix B, decoded eight bits at a time.
// The code is canonical, so the 257 code lengths are enough to rebuild it.
import { HpackError } from "./errors.ts";

/** Bits of the code of each octet, then of EOS (RFC 7541 Appendix B). */
// biome-ignore format: sixteen symbols a row
export const CODE_BITS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];

const EOS = 256;

/**
 * Nodes of 256 entries, one per next octet of input. An entry is
 * `symbol << 4 | bits` when a code ends within this octet (bits 1 to 8 belong to it),
 * minus the offset of the next node when the code goes on, and 0 where only EOS can be.
 */
const TREE = buildTree();

/** Decoded octets before they become a string. Owned by this module; used only within one call. */
let scratch = Buffer.allocUnsafeSlow(4096);

/**
 * Decodes `bytes[start, end)` into a latin1 string of at most `maxLength` octets.
 * Hot path: runs per header string.
 * @throws {HpackError} `HUFFMAN`, or `LIST_TOO_LARGE` when the result would be longer than `maxLength`
 */
export function huffmanDecode(
  bytes: Uint8Array,
  start: number,
  end: number,
  maxLength: number,
): string {
  // The shortest code has 5 bits. `cap` never passes the caller's limit, which bounds the scratch buffer.
  const cap = Math.max(0, Math.min(maxLength, Math.floor(((end - start) * 8) / 5)));
  if (cap > scratch.length) scratch = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(cap)));
  const out = scratch;
  let length = 0;
  let node = 0;
  let window = 0; // the last 16 bits of input
  let bits = 0; // how many of them are unread
  for (let i = start; i < end; i++) {
    window = ((window << 8) | bytes[i]!) & 0xffff;
    bits += 8;
    while (bits >= 8) {
      const entry = TREE[node + ((window >>> (bits - 8)) & 0xff)]!;
      if (entry > 0) {
        if (length === cap) throw tooLong(maxLength);
        out[length++] = entry >>> 4;
        bits -= entry & 15;
        node = 0;
      } else if (entry < 0) {
        node = -entry;
        bits -= 8;
      } else throw new HpackError("HUFFMAN", "Huffman string contains EOS");
    }
  }
  while (bits > 0) {
    const entry = TREE[node + ((window << (8 - bits)) & 0xff)]!;
    if (entry <= 0 || (entry & 15) > bits) break;
    if (length === cap) throw tooLong(maxLength);
    out[length++] = entry >>> 4;
    bits -= entry & 15;
    node = 0;
  }
  // What is left is padding: at most 7 bits, the first ones of EOS. Within a deeper node 8 or more are left.
  const padding = (1 << bits) - 1;
  if (node !== 0 || (window & padding) !== padding)
    throw new HpackError(
      "HUFFMAN",
      "Huffman string ends in padding that is too long or not all ones",
    );
  return length === 0 ? "" : out.toString("latin1", 0, length);
}

function tooLong(maxLength: number): HpackError {
  return new HpackError(
    "LIST_TOO_LARGE",
    `Header string is longer than the ${maxLength} octets left`,
  );
}

function buildTree(): Int32Array {
  const symbols = CODE_BITS.map((_, symbol) => symbol);
  symbols.sort((a, b) => CODE_BITS[a]! - CODE_BITS[b]! || a - b);
  const nodes: number[][] = [Array.from<number>({ length: 256 }).fill(0)];
  let code = 0;
  let codeBits = CODE_BITS[symbols[0]!]!;
  for (const symbol of symbols) {
    const length = CODE_BITS[symbol]!;
    code *= 2 ** (length - codeBits);
    codeBits = length;
    let node = 0;
    let left = length;
    for (; left > 8; left -= 8) {
      const octet = (code >>> (left - 8)) & 0xff;
      if (nodes[node]![octet] === 0)
        nodes[node]![octet] = -256 * (nodes.push(Array.from<number>({ length: 256 }).fill(0)) - 1);
      node = -nodes[node]![octet]! / 256;
    }
    const first = (code << (8 - left)) & 0xff;
    const entry = symbol === EOS ? 0 : (symbol << 4) | left;
    nodes[node]!.fill(entry, first, first + (1 << (8 - left)));
    code++;
  }
  return Int32Array.from(nodes.flat());
}
