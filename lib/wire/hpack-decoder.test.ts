// The examples of RFC 7541 Appendix C, the errors it demands, and the bounds we add.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HpackError } from "./errors.ts";
import type { HpackErrorCode } from "./errors.ts";
import { HpackDecoder } from "./hpack-decoder.ts";

type Field = readonly [name: string, value: string];
const ROOMY = { maxListBytes: 65_536 };

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ""), "hex");
}

function decode(
  decoder: HpackDecoder,
  block: Uint8Array,
  limits = ROOMY,
): (readonly [string, string, boolean])[] {
  const fields: [string, string, boolean][] = [];
  decoder.decode(block, 0, block.length, limits, (...field) => fields.push(field));
  return fields;
}

/** Reads the dynamic table, newest first, by asking for its indices. */
function table(decoder: HpackDecoder): Field[] {
  const entries: Field[] = [];
  for (let index = 62; index < 127; index++)
    try {
      decoder.decode(Uint8Array.of(0x80 | index), 0, 1, ROOMY, (n, v) => entries.push([n, v]));
    } catch {
      break;
    }
  return entries;
}

const GET: Field[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const NO_CACHE: Field = ["cache-control", "no-cache"];
const SECOND_GET: Field[] = [...GET, NO_CACHE];
const CUSTOM: Field = ["custom-key", "custom-value"];
const THIRD_GET: Field[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/index.html"],
  [":authority", "www.example.com"],
  CUSTOM,
];
const AUTHORITY: Field = [":authority", "www.example.com"];
const REQUEST_TABLES: { readonly table: Field[]; readonly bytes: number }[] = [
  { table: [AUTHORITY], bytes: 57 },
  { table: [NO_CACHE, AUTHORITY], bytes: 110 },
  { table: [CUSTOM, NO_CACHE, AUTHORITY], bytes: 164 },
];

const PRIVATE: Field = ["cache-control", "private"];
const DATE: Field = ["date", "Mon, 21 Oct 2013 20:13:21 GMT"];
const LATER: Field = ["date", "Mon, 21 Oct 2013 20:13:22 GMT"];
const LOCATION: Field = ["location", "https://www.example.com"];
const GZIP: Field = ["content-encoding", "gzip"];
const COOKIE: Field = ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"];
const RESPONSES: Field[][] = [
  [[":status", "302"], PRIVATE, DATE, LOCATION],
  [[":status", "307"], PRIVATE, DATE, LOCATION],
  [[":status", "200"], PRIVATE, LATER, LOCATION, GZIP, COOKIE],
];
const RESPONSE_TABLES: { readonly table: Field[]; readonly bytes: number }[] = [
  { table: [LOCATION, DATE, PRIVATE, [":status", "302"]], bytes: 222 },
  { table: [[":status", "307"], LOCATION, DATE, PRIVATE], bytes: 222 },
  { table: [COOKIE, GZIP, LATER], bytes: 215 },
];

for (const example of [
  {
    name: "C.2.1 literal with indexing",
    block: "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
    want: ["custom-key", "custom-header", false],
    bytes: 55,
  },
  {
    name: "C.2.2 literal without indexing",
    block: "040c 2f73 616d 706c 652f 7061 7468",
    want: [":path", "/sample/path", false],
    bytes: 0,
  },
  {
    name: "C.2.3 literal never indexed",
    block: "1008 7061 7373 776f 7264 0673 6563 7265 74",
    want: ["password", "secret", true],
    bytes: 0,
  },
  { name: "C.2.4 indexed", block: "82", want: [":method", "GET", false], bytes: 0 },
] as const)
  test(`RFC 7541 ${example.name}`, () => {
    const decoder = new HpackDecoder();
    assert.deepEqual(decode(decoder, hex(example.block)), [example.want]);
    assert.equal(decoder.tableBytes, example.bytes);
  });

for (const series of [
  {
    name: "C.3 requests without Huffman",
    tableSize: 4096,
    blocks: [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
    want: [GET, SECOND_GET, THIRD_GET],
    tables: REQUEST_TABLES,
  },
  {
    name: "C.4 requests with Huffman",
    tableSize: 4096,
    blocks: [
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      "8286 84be 5886 a8eb 1064 9cbf",
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
    want: [GET, SECOND_GET, THIRD_GET],
    tables: REQUEST_TABLES,
  },
  {
    name: "C.5 responses without Huffman, with evictions",
    tableSize: 256,
    blocks: [
      `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
       3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
      "4803 3330 37c1 c0bf",
      `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
       677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
       553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
    ],
    want: RESPONSES,
    tables: RESPONSE_TABLES,
  },
  {
    name: "C.6 responses with Huffman, with evictions",
    tableSize: 256,
    blocks: [
      `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
       919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
      "4883 640e ffc1 c0bf",
      `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
       821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
       4ee5 b106 3d50 07`,
    ],
    want: RESPONSES,
    tables: RESPONSE_TABLES,
  },
]) {
  test(`RFC 7541 ${series.name}`, () => {
    const decoder = new HpackDecoder({ maxTableSize: series.tableSize });
    for (const [i, block] of series.blocks.entries()) {
      const got = decode(decoder, hex(block)).map(([name, value]) => [name, value]);
      assert.deepEqual(got, series.want[i]);
      assert.deepEqual(table(decoder), series.tables[i]?.table);
      assert.equal(decoder.tableBytes, series.tables[i]?.bytes);
    }
  });

  test(`RFC 7541 ${series.name}: a block cut anywhere is an error or a prefix`, () => {
    const block = hex(series.blocks[0] ?? "");
    const want = series.want[0] ?? [];
    for (let cut = 0; cut < block.length; cut++) {
      const fields: Field[] = [];
      let code: HpackErrorCode | null = null;
      try {
        new HpackDecoder().decode(block, 0, cut, ROOMY, (n, v) => fields.push([n, v]));
      } catch (error) {
        assert.ok(error instanceof HpackError);
        code = error.code;
      }
      assert.deepEqual(fields, want.slice(0, fields.length));
      assert.ok(fields.length < want.length);
      assert.ok(code === null || code === "TRUNCATED", `cut at ${cut}: ${code}`);
    }
  });
}

test("a block is read from its own window of a larger buffer", () => {
  const framed = hex("ffff 8286 ffff");
  const fields: string[] = [];
  new HpackDecoder().decode(new Uint8Array(framed), 2, 4, ROOMY, (name) => fields.push(name));
  assert.deepEqual(fields, [":method", ":scheme"]);
});

test("strings are kept octet by octet", () => {
  const [field] = decode(new HpackDecoder(), hex("0003 00ff 0d 04 e282 ac80"));
  assert.deepEqual(field, ["\u0000\u00ff\r", "\u00e2\u0082\u00ac\u0080", false]);
});

for (const c of [
  { name: "index 0", block: "80", code: "INDEX" },
  { name: "index beyond the static table", block: "be", code: "INDEX" },
  { name: "name index beyond both tables", block: "7e 00", code: "INDEX" },
  { name: "huge index", block: "ff ff ff ff 7f", code: "INDEX" },
  { name: "integer of five continuation octets", block: "ff 80 80 80 80 00", code: "INTEGER" },
  { name: "integer that never ends", block: "ff ff ff ff ff ff ff ff", code: "INTEGER" },
  { name: "integer cut short", block: "ff 80", code: "TRUNCATED" },
  { name: "literal without a name", block: "40", code: "TRUNCATED" },
  { name: "literal without a value", block: "40 01 61", code: "TRUNCATED" },
  { name: "string longer than the block", block: "40 0a 61", code: "TRUNCATED" },
  { name: "string length beyond 2^27", block: "40 7f ff ff ff 7f 61", code: "TRUNCATED" },
  { name: "Huffman padding of eight ones", block: "40 81 ff 00", code: "HUFFMAN" },
  { name: "Huffman padding a whole octet too long", block: "40 82 1f ff 00", code: "HUFFMAN" },
  { name: "Huffman padding of zeros", block: "40 81 18 00", code: "HUFFMAN" },
  { name: "Huffman EOS", block: "40 84 ff ff ff ff 00", code: "HUFFMAN" },
  { name: "Huffman EOS and more", block: "40 85 ff ff ff ff fc 00", code: "HUFFMAN" },
  { name: "Huffman symbol cut short", block: "40 81 fe 00", code: "HUFFMAN" },
  { name: "size update after a field", block: "82 20", code: "TABLE_SIZE" },
  { name: "size update above the setting", block: "3f e2 1f", code: "TABLE_SIZE" },
  { name: "three size updates", block: "20 20 20", code: "TABLE_SIZE" },
] as const)
  test(`refused: ${c.name}`, () => {
    assert.throws(
      () => decode(new HpackDecoder(), hex(c.block)),
      (error) => error instanceof HpackError && error.code === c.code,
    );
  });

for (const [name, block] of [
  ["empty block", ""],
  ["two size updates, then a field", "20 3f e1 1f 82"],
  ["size update alone", "3f e1 1f"],
  ["empty name and value", "40 00 00"],
  ["empty Huffman strings", "40 80 80"],
  ["Huffman padding of seven ones", "40 83 03 2c ff 00"],
] as const)
  test(`accepted: ${name}`, () => {
    decode(new HpackDecoder(), hex(block));
  });

test("an update to zero empties the table", () => {
  const decoder = new HpackDecoder();
  decode(decoder, hex("40 01 61 01 62"));
  assert.equal(decoder.tableBytes, 34);
  decode(decoder, hex("20"));
  assert.equal(decoder.tableBytes, 0);
  assert.throws(() => decode(decoder, hex("be")), { code: "INDEX" });
});

test("an entry larger than the table empties it and is still delivered", () => {
  const decoder = new HpackDecoder({ maxTableSize: 64 });
  decode(decoder, hex("40 01 61 01 62"));
  const value = "78".repeat(40);
  assert.equal(decode(decoder, hex(`40 01 61 28 ${value}`))[0]?.[1], "x".repeat(40));
  assert.equal(decoder.tableBytes, 0);
});

test("a lowered setting has to be answered by a size update", () => {
  const decoder = new HpackDecoder();
  decode(decoder, hex("40 01 61 01 62"));
  decoder.setMaxTableSize(16);
  decoder.setMaxTableSize(4096);
  assert.throws(() => decode(decoder, hex("be")), { code: "TABLE_SIZE" });
  assert.throws(() => decode(decoder, hex("3f e1 1f be")), { code: "TABLE_SIZE" });
  decode(decoder, hex("30 3f e1 1f 82"));
  assert.equal(decoder.tableBytes, 0);
});

test("a raised setting needs no update and allows a larger one", () => {
  const decoder = new HpackDecoder();
  decoder.setMaxTableSize(8192);
  decode(decoder, hex("82"));
  decode(decoder, hex("3f e1 3f 82"));
});

test("the list limit stops references to one large entry", () => {
  const decoder = new HpackDecoder();
  const value = "78".repeat(4000);
  decode(decoder, hex(`40 01 61 7f a1 1e ${value}`));
  const bomb = new Uint8Array(16_000).fill(0xbe);
  let fields = 0;
  assert.throws(
    () => decoder.decode(bomb, 0, bomb.length, { maxListBytes: 16_384 }, () => fields++),
    { code: "LIST_TOO_LARGE" },
  );
  assert.equal(fields, 4);
});

for (const [name, block] of [
  ["plain value", "00 01 61 0a 30303030303030303030"],
  ["plain name", "00 0a 30303030303030303030 01 61"],
  ["Huffman value", "00 01 61 87 0000 0000 0000 7f"],
  ["Huffman value, last symbol in the padded octet", "00 01 61 87 0000 0000 0000 07"],
] as const)
  test(`the list limit holds within a string: ${name}`, () => {
    assert.throws(() => decode(new HpackDecoder(), hex(block), { maxListBytes: 42 }), {
      code: "LIST_TOO_LARGE",
    });
    decode(new HpackDecoder(), hex(block), { maxListBytes: 44 });
  });
