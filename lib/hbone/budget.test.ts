// Budgets on a clock of our own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "./budget.ts";

function spendAll(budget: Budget, nowMs: number): number {
  let spent = 0;
  while (spent < 10_000 && budget.spend(nowMs)) spent++;
  return spent;
}

test("the burst is there at once, then what each second gives back", () => {
  const budget = new Budget({ burst: 500, perSecond: 100 });
  assert.equal(spendAll(budget, 1_000), 500);
  assert.equal(spendAll(budget, 1_009), 0);
  assert.equal(spendAll(budget, 1_010), 1);
  assert.equal(spendAll(budget, 2_010), 100);
});

test("what is given back never exceeds the burst", () => {
  const budget = new Budget({ burst: 50, perSecond: 100 });
  assert.equal(spendAll(budget, 0), 50);
  assert.equal(spendAll(budget, 3_600_000), 50);
});

test("steady spending at the rate goes on for ever", () => {
  const budget = new Budget({ burst: 10, perSecond: 100 });
  for (let now = 0; now < 100_000; now += 10) assert.ok(budget.spend(now), `at ${now}`);
});

test("spending twice the rate ends after the burst", () => {
  const budget = new Budget({ burst: 100, perSecond: 100 });
  let now = 0;
  while (budget.spend(now)) now += 5;
  assert.ok(now >= 900 && now <= 1_100, `after ${now} ms`);
});
