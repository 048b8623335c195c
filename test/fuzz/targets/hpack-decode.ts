// Header blocks from a peer: one decoder per input, blocks separated by a length octet, tables re-checked.
import assert from "node:assert/strict";
import { HpackError } from "#lib/wire/errors.ts";
import { HpackDecoder } from "#lib/wire/hpack-decoder.ts";
import { HpackEncoder } from "#lib/wire/hpack-encoder.ts";
import type { FuzzTarget } from "../target.ts";
import { hex } from "../target.ts";

const LIMITS = { maxListBytes: 4096 };
const TABLE_BYTES = 512;

export const target: FuzzTarget = {
  name: "hpack-decode",
  corpus: hex(
    "11 8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d 0c 8286 84be 5808 6e6f 2d63 6163 6865",
    "11 8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff 0c 8286 84be 5886 a8eb 1064 9cbf",
    "1a 4003 666f 6f04 6261 7262 0f2b 0361 6263 1001 6101 62 bebf c0c1 02 bebe 01 20 01 82",
    "05 3f e1 01 82 be 03 20 3f 01 82",
    "15 4085 f2b5 0b23 1f 8a 2b96 1d6a 77ad 94e7 2ff7 0b 82 84 86 88",
    "0a 40 01 61 84 ff ff ff ff 00",
    "08 7f ff ff ff 7f 01 61 00",
  ),
  refusals: [HpackError],
  run(bytes) {
    const decoder = new HpackDecoder({ maxTableSize: TABLE_BYTES });
    const encoder = new HpackEncoder();
    const witness = new HpackDecoder();
    let blocks = 0;
    let fields = 0;
    for (let at = 0; at < bytes.length; blocks++) {
      const end = Math.min(bytes.length, at + 1 + bytes[at]!);
      const list: [string, string][] = [];
      let listBytes = 0;
      decoder.decode(bytes, at + 1, end, LIMITS, (name, value) => {
        list.push([name, value]);
        listBytes += name.length + value.length + 32;
      });
      assert.ok(listBytes <= LIMITS.maxListBytes);
      assert.ok(decoder.tableBytes <= TABLE_BYTES);
      const out = new Uint8Array(HpackEncoder.maxBytes(list));
      const again: [string, string][] = [];
      const written = encoder.encode(list, out, 0);
      witness.decode(out, 0, written, LIMITS, (...field) => again.push([field[0], field[1]]));
      assert.deepEqual(again, list);
      fields += list.length;
      at = end;
    }
    return `${Math.min(blocks, 4)} blocks, ${Math.min(fields, 8)} fields`;
  },
};
