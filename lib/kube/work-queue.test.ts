// The work queue: once per key, again after a failure, and never for ever.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { Clock } from "#lib/base/clock.ts";
import { WorkQueue } from "./work-queue.ts";

function rig(handle: (key: string) => Promise<void>) {
  const sleeps: number[] = [];
  const givenUp: string[] = [];
  const clock: Clock = {
    now: () => 0,
    sleep: async (ms) => {
      sleeps.push(ms);
      await setImmediate();
    },
  };
  const end = new AbortController();
  const queue = new WorkQueue<string>({
    handle,
    onGivenUp: (key, error) => givenUp.push(`${key}: ${String(error)}`),
    clock,
  });
  return { queue, sleeps, givenUp, end };
}

test("a key waits once, however often it is added, and is handled again when added meanwhile", async () => {
  const handled: string[] = [];
  const { queue, end } = rig(async (key) => {
    handled.push(key);
    if (handled.length === 1) queue.add(key);
    if (handled.length === 3) end.abort();
  });
  const running = queue.run(["a", "b"], end.signal);
  queue.add("a");
  queue.add("b");
  await running;
  assert.deepEqual(handled, ["a", "b", "a"]);
});

test("what fails comes back later, others go on, and it is given up after five attempts", async () => {
  const handled: string[] = [];
  const { queue, sleeps, givenUp, end } = rig(async (key) => {
    handled.push(key);
    if (key === "bad") throw new Error("no");
  });
  const running = queue.run(["bad", "good"], end.signal);
  while (givenUp.length === 0) await setImmediate();
  assert.deepEqual(handled, ["bad", "good", "bad", "bad", "bad", "bad"]);
  assert.deepEqual(sleeps, [5, 10, 20, 40]);
  assert.deepEqual(givenUp, ["bad: Error: no"]);
  queue.add("bad");
  while (givenUp.length === 1) await setImmediate();
  assert.equal(handled.length, 11, "a new change starts afresh");
  end.abort();
  await running;
});

test("nothing is remembered while it does not run", async () => {
  const handled: string[] = [];
  const { queue, end } = rig(async (key) => {
    handled.push(key);
    end.abort();
  });
  queue.add("early");
  assert.equal(queue.size, 0);
  await queue.run(["first", "second"], end.signal);
  queue.add("late");
  assert.equal(queue.size, 0);
  assert.deepEqual(handled, ["first"]);
});
