import assert from "node:assert/strict";
import { test } from "node:test";
import { JsonLines } from "./json-lines.ts";

const TEXT = '{"a":"ä€😀"}\n\n{"b":1}\r\n{"long":"' + "x".repeat(5_000) + '"}\n{"rest"';
const WANTED = ['{"a":"ä€😀"}', '{"b":1}', `{"long":"${"x".repeat(5_000)}"}`];

function cutAt(sizes: () => number): { lines: string[]; hasRest: boolean } {
  const bytes = Buffer.from(TEXT);
  const lines = new JsonLines();
  const found: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = sizes();
    found.push(...lines.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return { lines: found, hasRest: lines.hasRest };
}

test("lines are the same whole, byte by byte and at random cuts", () => {
  const wanted = { lines: WANTED, hasRest: true };
  assert.deepEqual(
    cutAt(() => TEXT.length * 2),
    wanted,
  );
  assert.deepEqual(
    cutAt(() => 1),
    wanted,
  );
  let seed = 7;
  for (let round = 0; round < 50; round++)
    assert.deepEqual(
      cutAt(() => (seed = (seed * 48_271) % 2_147_483_647) % 97 || 1),
      wanted,
    );
});

test("a line without end is refused before it fills the memory", () => {
  const lines = new JsonLines();
  const piece = Buffer.alloc(1024 * 1024, 0x20);
  assert.throws(() => {
    for (let i = 0; i < 20; i++) lines.push(piece);
  }, RangeError);
});
