import assert from "node:assert/strict";
import { test } from "node:test";
import { SettleTrim } from "./settle-trim.ts";

interface Trial {
  readonly trim: SettleTrim;
  readonly trims: () => number;
  /** Ends the sleep that is under way, if any. */
  readonly quiet: () => Promise<void>;
}

function trial(): Trial {
  let wake: (() => void) | null = null;
  let trims = 0;
  const sleep = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  return {
    trim: new SettleTrim({ sleep }, () => trims++),
    trims: () => trims,
    quiet: async () => {
      wake?.();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test("a large push is trimmed once, when no response has come for a while", async () => {
  const { trim, trims, quiet } = trial();
  trim.received(2_000_000);
  assert.equal(trims(), 0);
  await quiet();
  assert.equal(trims(), 1);
  await quiet();
  assert.equal(trims(), 1);
});

test("responses that keep coming put it off", async () => {
  const { trim, trims, quiet } = trial();
  trim.received(2_000_000);
  for (let i = 0; i < 3; i++) {
    trim.received(10);
    await quiet();
    assert.equal(trims(), 0);
  }
  await quiet();
  assert.equal(trims(), 1);
});

test("small changes cost no pause until they add up", async () => {
  const { trim, trims, quiet } = trial();
  for (let i = 0; i < 100; i++) trim.received(1_000);
  await quiet();
  assert.equal(trims(), 0);
  trim.received(1_000_000);
  await quiet();
  assert.equal(trims(), 1);
});
