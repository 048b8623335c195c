// Trace ids: the exact form, and the one PRNG.
import assert from "node:assert/strict";
import { test } from "node:test";
import { newTraceparent, seededRandom } from "./traceparent.ts";

test("a fresh id is 55 characters, flags 00, and another each time", () => {
  const random = seededRandom([1, 2, 3, 4]);
  const seen = new Set<string>();
  for (let i = 0; i < 1000; i++) {
    const value = newTraceparent(random);
    assert.match(value, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    seen.add(value);
  }
  assert.equal(seen.size, 1000);
});

test("a broken random source still gives valid ids", () => {
  assert.equal(
    newTraceparent(() => 0),
    `00-${"1".padStart(32, "0")}-${"1".padStart(16, "0")}-00`,
  );
});

test("the generator spreads over 32 bits, and the seed decides", () => {
  const a = seededRandom([0, 0, 0, 0]);
  const b = seededRandom([0, 0, 0, 1]);
  let sum = 0;
  for (let i = 0; i < 10_000; i++) {
    const value = a();
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** 32);
    assert.notEqual(value, b());
    sum += value / 2 ** 32;
  }
  assert.ok(Math.abs(sum / 10_000 - 0.5) < 0.02);
});
