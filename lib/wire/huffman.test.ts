// The code rebuilt from its lengths is the one of RFC 7541 Appendix B, for every octet.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CODE_BITS, huffmanDecode } from "./huffman.ts";

/** Encoder by the definition, bit by bit: the oracle of these tests. */
function encode(text: string): Uint8Array {
  const codes = codeTable();
  let bits = "";
  for (const char of text) bits += codes[char.charCodeAt(0)];
  bits += "1".repeat((8 - (bits.length % 8)) % 8);
  return Uint8Array.from(bits.match(/.{8}/g) ?? [], (octet) => Number.parseInt(octet, 2));
}

function codeTable(): string[] {
  const codes: string[] = [];
  let code = 0;
  for (let bits = 1; bits <= 30; bits++, code *= 2)
    for (const [symbol, length] of CODE_BITS.entries())
      if (length === bits) codes[symbol] = (code++).toString(2).padStart(bits, "0");
  return codes;
}

test("codes at the ends of Appendix B's table", () => {
  const codes = codeTable();
  for (const [symbol, code] of [
    [0, "1111111111000"],
    [0x30, "00000"],
    [0x7e, "1111111111101"],
    [0xf9, "1111111111111111111111111110"],
    [0xff, "11111111111111111111101110"],
    [256, "1".repeat(30)],
  ] as const)
    assert.equal(codes[symbol], code);
});

test("every octet, alone and before and after every other, round-trips", () => {
  for (let a = 0; a < 256; a++) {
    for (const b of [0, 1, 0x30, 0x61, 0x7e, 0x80, 0xf9, 0xff]) {
      const text = String.fromCharCode(a, b, a);
      const bytes = encode(text);
      assert.equal(huffmanDecode(bytes, 0, bytes.length, 3), text);
      assert.throws(() => huffmanDecode(bytes, 0, bytes.length, 2), { code: "LIST_TOO_LARGE" });
    }
  }
});

test("strings beyond the first scratch buffer decode, up to the limit", () => {
  const text = "0".repeat(20_000);
  const bytes = encode(text);
  assert.equal(huffmanDecode(bytes, 0, bytes.length, 20_000), text);
  assert.throws(() => huffmanDecode(bytes, 0, bytes.length, 19_999), { code: "LIST_TOO_LARGE" });
});
