// Header lists of ours, with a peer that keeps changing its table size: our decoder has to follow.
import assert from "node:assert/strict";
import { HpackDecoder } from "#lib/wire/hpack-decoder.ts";
import { HpackEncoder } from "#lib/wire/hpack-encoder.ts";
import type { FuzzTarget } from "../target.ts";
import { utf8 } from "../target.ts";

const LIMITS = { maxListBytes: 1 << 20 };

export const target: FuzzTarget = {
  name: "hpack-encode",
  // A line is `name value`; an empty line ends a block; `#n` is the peer setting its table to n.
  corpus: utf8(
    ":method CONNECT\n:authority 10.0.0.1:80\ntraceparent 00-1\n\n:method CONNECT\n:authority 10.0.0.1:80",
    "#100\n:status 200\nbaggage a=b\n\n#0\n:status 200\nbaggage a=b\n#4096\n\nbaggage a=b\n\nbaggage a=b",
    ":authority 10.0.0.1:80\n:authority 10.0.0.1:81\n:authority 10.0.0.1:82\n\n#64\n\n:authority 10.0.0.1:81",
    "accept-encoding gzip, deflate\n:path /\n:path \n",
  ),
  words: ["\n", "\n\n", "#64\n", "#0\n", "#4096\n", "#99999999\n", ":status 200", "baggage "],
  refusals: [],
  run(bytes) {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
    let blocks = 0;
    let smallest = 1e9;
    for (const block of text.split("\n\n")) {
      const list: [string, string][] = [];
      for (const line of block.split("\n")) {
        const setting = /^#(\d{1,8})$/.exec(line);
        if (setting !== null) {
          const size = Number(setting[1]);
          smallest = Math.min(smallest, size);
          encoder.setMaxTableSize(size);
          decoder.setMaxTableSize(size);
          continue;
        }
        const blank = line.indexOf(" ");
        list.push(blank === -1 ? [line, ""] : [line.slice(0, blank), line.slice(blank + 1)]);
      }
      const out = new Uint8Array(HpackEncoder.maxBytes(list));
      const end = encoder.encode(list, out, 0);
      const again: [string, string][] = [];
      decoder.decode(out, 0, end, LIMITS, (name, value) => again.push([name, value]));
      assert.deepEqual(again, list);
      blocks++;
    }
    return `${Math.min(blocks, 8)} blocks, table ${Math.ceil(Math.log2(smallest + 1))}`;
  },
};
