// The memory bound of large answers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SendGate } from "./send-gate.ts";

/** Wants `bytes`, and says when it is called. */
class Fake {
  readonly gate: SendGate;
  readonly bytes: number;
  isIn = false;

  constructor(gate: SendGate, bytes: number) {
    this.gate = gate;
    this.bytes = bytes;
    this.onGateOpen();
  }

  onGateOpen(): void {
    this.isIn = this.gate.enter(this, this.bytes);
  }
}

test("clients enter while there is room, and wait in order", () => {
  const gate = new SendGate(100);
  const [a, b, c, d] = [60, 40, 50, 10].map((bytes) => new Fake(gate, bytes));
  assert.deepEqual([a?.isIn, b?.isIn, c?.isIn, d?.isIn], [true, true, false, false]);
  gate.leave(a as Fake);
  assert.deepEqual([c?.isIn, d?.isIn], [true, true]);
});

test("one that is larger than the budget goes alone", () => {
  const gate = new SendGate(100);
  const small = new Fake(gate, 10);
  const huge = new Fake(gate, 1_000);
  assert.equal(huge.isIn, false);
  gate.leave(small);
  assert.equal(huge.isIn, true);
  assert.equal(new Fake(gate, 1).isIn, false);
});

test("one that leaves while it waits is not called", () => {
  const gate = new SendGate(10);
  const [a, b, c] = [10, 10, 10].map((bytes) => new Fake(gate, bytes));
  gate.leave(b as Fake);
  gate.leave(a as Fake);
  assert.deepEqual([b?.isIn, c?.isIn], [false, true]);
  gate.leave(a as Fake);
});
