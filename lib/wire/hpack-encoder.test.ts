// What the encoder writes, and that any decoder state it causes is the one it assumed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import type { HeaderList } from "./hpack-encoder.ts";

const ROOMY = { maxListBytes: 1 << 20 };

function encode(encoder: HpackEncoder, headers: HeaderList): Buffer {
  const out = Buffer.alloc(HpackEncoder.maxBytes(headers) + 3, 0xee);
  return out.subarray(3, encoder.encode(headers, out, 3));
}

function decode(decoder: HpackDecoder, block: Uint8Array): [string, string][] {
  const fields: [string, string][] = [];
  decoder.decode(block, 0, block.length, ROOMY, (name, value) => fields.push([name, value]));
  return fields;
}

const connect = (i: number, authority = "10.0.3.7:8080"): HeaderList => [
  [":method", "CONNECT"],
  [":authority", authority],
  ["baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,service.name=echo"],
  ["forwarded", `for="10.0.3.${i % 250}:${30_000 + i}"`],
  ["traceparent", `00-${String(i).padStart(32, "a")}-${String(i).padStart(16, "b")}-00`],
];

test("static entries take one octet", () => {
  const headers = [
    [":status", "200"],
    [":method", "GET"],
    ["accept-encoding", "gzip, deflate"],
  ] as const;
  assert.equal(encode(new HpackEncoder(), headers).toString("hex"), "888290");
});

test("a second CONNECT costs one octet per repeated header", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const first = encode(encoder, connect(1));
  const second = encode(encoder, connect(2));
  assert.deepEqual(decode(decoder, first), connect(1));
  assert.deepEqual(decode(decoder, second), connect(2));
  // Three indices, then the two values that always differ, each behind a name index and a length.
  assert.equal(second.length, 3 + 2 * 3 + 'for="10.0.3.2:30002"'.length + 55);
});

test("headers that never repeat leave the table alone after the first", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  decode(decoder, encode(encoder, connect(0)));
  const before = decoder.tableBytes;
  for (let i = 1; i < 500; i++)
    assert.deepEqual(decode(decoder, encode(encoder, connect(i))), connect(i));
  assert.equal(decoder.tableBytes, before);
});

test("thousands of authorities through evictions stay in step", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  for (let i = 0; i < 3000; i++) {
    const headers = connect(i, `10.96.${(i * 7) % 31}.${(i * 13) % 251}:80`);
    assert.deepEqual(decode(decoder, encode(encoder, headers)), headers);
  }
});

test("a value too large for half the table is sent plain and evicts nothing", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  decode(decoder, encode(encoder, connect(1)));
  const before = decoder.tableBytes;
  decode(decoder, encode(encoder, [["baggage", "x".repeat(3000)]]));
  assert.equal(decoder.tableBytes, before);
});

test("the peer's table setting is announced before the next field, smallest first", () => {
  const encoder = new HpackEncoder();
  encoder.setMaxTableSize(100);
  encoder.setMaxTableSize(300);
  assert.equal(encode(encoder, [[":status", "200"]]).toString("hex"), "3f453f8d0288");
  assert.equal(encode(encoder, [[":status", "200"]]).toString("hex"), "88");
});

test("a peer without a table gets plain literals", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  encoder.setMaxTableSize(0);
  decoder.setMaxTableSize(0);
  for (let i = 0; i < 3; i++)
    assert.deepEqual(decode(decoder, encode(encoder, connect(i))), connect(i));
  assert.equal(decoder.tableBytes, 0);
});

test("a larger offer than our own cap changes nothing", () => {
  const encoder = new HpackEncoder();
  encoder.setMaxTableSize(1 << 30);
  assert.equal(encode(encoder, [[":status", "200"]]).toString("hex"), "88");
});

test("our own cap below the default is announced at once", () => {
  const encoder = new HpackEncoder({ maxTableSize: 64 });
  assert.equal(encode(encoder, [[":status", "200"]]).toString("hex"), "3f2188");
});

test("a full buffer changes no state", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  assert.throws(() => encoder.encode(connect(1), Buffer.alloc(40), 0), { code: "OUT_OF_SPACE" });
  assert.deepEqual(decode(decoder, encode(encoder, connect(1))), connect(1));
});

test("characters beyond latin1 keep the length and the tables in step", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  for (let i = 0; i < 2; i++) {
    const [field] = decode(decoder, encode(encoder, [["baggage", "a=\u20ac"]]));
    assert.deepEqual(field, ["baggage", "a=\u00ac"]);
  }
});
