// Bytes of log lines: numbers and addresses as text would print them, growth at every boundary, one owner.
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSocketAddr } from "#lib/net/ip.ts";
import { LineBuffer } from "./line-buffer.ts";
import { addr } from "./test-connection.ts";

function written(write: (out: LineBuffer) => void): string {
  const out = new LineBuffer();
  write(out);
  return Buffer.from(out.take()).toString();
}

for (const value of [
  0,
  1,
  9,
  10,
  99,
  100,
  101,
  999_999,
  1_000_000,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 + 1,
  999_999_999_999_999,
  1_000_000_000_000_000,
  Number.MAX_SAFE_INTEGER,
])
  test(`decimal ${value}`, () =>
    assert.equal(
      written((out) => out.decimal(value)),
      String(value),
    ));

for (const text of ["10.0.0.1:80", "255.255.255.255:65535", "[fd00::7]:8080", "[::1]:1"])
  test(`address ${text}`, () => {
    const parsed = addr(text);
    assert.equal(
      written((out) => out.address(parsed)),
      formatSocketAddr(parsed),
    );
  });

test("text of any kind is UTF-8", () => {
  const text = 'café "ß" 日本 \u{1f600}';
  assert.equal(
    written((out) => out.text(text)),
    text,
  );
});

for (const [name, write] of [
  ["ascii", (out: LineBuffer) => out.ascii("0123456789abcdef")],
  ["decimal", (out: LineBuffer) => out.decimal(Number.MAX_SAFE_INTEGER)],
  ["text", (out: LineBuffer) => out.text("ééééé")],
  ["raw", (out: LineBuffer) => out.raw(Buffer.from("some bytes"))],
  ["address", (out: LineBuffer) => out.address(addr("[fd00:1:2:3:4:5:6:7]:65535"))],
] as const)
  test(`${name} makes the buffer grow without losing anything, wherever it ends`, () => {
    const one = written(write);
    for (let before = 65_536 - 64; before <= 65_536; before += 3) {
      const got = written((out) => {
        out.raw(Buffer.alloc(before, "x"));
        write(out);
        write(out);
      });
      assert.ok(got === "x".repeat(before) + one + one, `after ${before} bytes`);
    }
  });

test("a single piece larger than twice the buffer fits", () => {
  assert.equal(written((out) => out.ascii("y".repeat(500_000))).length, 500_000);
});

test("what was taken is the taker's, and lines begin again from nothing", () => {
  const out = new LineBuffer();
  out.ascii("one");
  out.endLine();
  assert.equal(out.lines, 1);
  const taken = out.take();
  assert.equal(
    taken.byteLength,
    taken.buffer.byteLength,
    "no memory beyond its own is handed over",
  );
  out.ascii("two");
  assert.equal(Buffer.from(taken).toString(), "one\n");
  assert.equal(out.lines, 0);
  assert.equal(Buffer.from(out.take()).toString(), "two");
});
