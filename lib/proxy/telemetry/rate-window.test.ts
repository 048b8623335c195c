// Rates must not depend on who else looks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RateWindow } from "./rate-window.ts";

const at = (atMs: number, bytes: number) => ({ atMs, sent: bytes, received: 2 * bytes });

test("the first look tells the rate since the connection was opened", () => {
  const window = new RateWindow(10_000);
  assert.deepEqual(window.look(at(12_000, 400)), { sent: 200, received: 400 });
});

test("a second reader a moment later sees the same, not a burst or nothing", () => {
  const window = new RateWindow(0);
  window.look(at(5_000, 5_000));
  assert.deepEqual(window.look(at(6_000, 8_000)), { sent: 3_000, received: 6_000 });
  assert.deepEqual(window.look(at(6_010, 8_030)).sent, 3_000);
  assert.deepEqual(window.look(at(6_020, 8_060)).sent, 3_000);
});

test("looking each second gives each second's rate", () => {
  const window = new RateWindow(0);
  const rates = [1, 2, 3, 4].map((s) => window.look(at(s * 1_000, s < 3 ? s * 100 : 200)).sent);
  assert.deepEqual(rates, [100, 100, 0, 0]);
});

test("in the moment of opening there is no division by zero", () => {
  assert.deepEqual(new RateWindow(7).look(at(7, 0)), { sent: 0, received: 0 });
});
