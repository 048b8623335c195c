import assert from "node:assert/strict";
import { test } from "node:test";
import { parseReply } from "./reply.ts";

/** Status and body. */
function read(bytes: Buffer, isEnd: boolean): { status: number; body: string } | null {
  const reply = parseReply(bytes, isEnd);
  return reply === null ? null : { status: reply.status, body: reply.body };
}

const CASES = [
  {
    name: "with a length",
    text: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    want: { status: 200, body: "ok" },
  },
  {
    name: "without a body",
    text: "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    want: { status: 200, body: "" },
  },
  {
    name: "in chunks",
    text: "HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nbad\r\nA\r\n0123456789\r\n0\r\n\r\n",
    want: { status: 500, body: "bad0123456789" },
  },
  {
    name: "after an interim one",
    text: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
    want: { status: 404, body: "x" },
  },
];

for (const { name, text, want } of CASES)
  test(`a reply ${name}, whole and byte by byte`, () => {
    const bytes = Buffer.from(text);
    assert.deepEqual(read(bytes, true), want);
    let complete = -1;
    for (let i = 0; i <= bytes.length; i++) {
      const got = read(bytes.subarray(0, i), false);
      if (got === null) continue;
      assert.deepEqual(got, want);
      if (complete < 0) complete = i;
    }
    // the empty trailer of the last chunk is not waited for
    assert.ok(complete >= bytes.length - 2);
  });

test("a body without length ends with the connection", () => {
  const bytes = Buffer.from("HTTP/1.0 200 OK\r\n\r\nall of it");
  assert.equal(parseReply(bytes, false), null);
  assert.deepEqual(read(bytes, true), { status: 200, body: "all of it" });
});

test("header names are read in any case", () => {
  const reply = parseReply(
    Buffer.from("HTTP/1.1 500 x\r\nX-One:  a b \r\nContent-Length: 0\r\n\r\n"),
    true,
  );
  assert.equal(reply?.headers.get("x-one"), "a b");
});

for (const text of [
  "",
  "HTTP/1.1 200 OK\r\n",
  "SSH-2.0-x\r\n\r\n",
  "HTTP/2 200\r\n\r\n",
  "HTTP/1.1 2000 OK\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
])
  test(`no reply: ${JSON.stringify(text)}`, () =>
    assert.throws(() => parseReply(Buffer.from(text), true)));
