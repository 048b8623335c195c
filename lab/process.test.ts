import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LabProcess, run } from "./process.ts";

const code = (c: string) => (error: unknown) => (error as { code?: string }).code === c;

test("run: output, status and input", async () => {
  assert.equal((await run(["cat"], { input: "in" })).stdout, "in");
  assert.equal((await run(["sh", "-c", "exit 3"], { allowFailure: true })).code, 3);
  await assert.rejects(run(["sh", "-c", "echo why >&2; exit 3"]), /ended with status 3: why/);
});

test("run: a missing program and a deadline are told apart", async () => {
  await assert.rejects(run(["no-such-program"]), code("MISSING_PROGRAM"));
  await assert.rejects(
    run(["sleep", "10"], { timeoutMs: 50, allowFailure: true }),
    /did not end within 50 ms/,
  );
});

test("process: output is kept, waited for, and quoted when it ends too early", async () => {
  await using talker = await LabProcess.start(
    ["sh", "-c", "echo one; echo two >&2; exec sleep 10"],
    { name: "talker" },
  );
  assert.equal((await talker.waitForOutput(/^two$/m))[0], "two");
  assert.equal(talker.stdout, "one\n");
  await using mute = await LabProcess.start(["sh", "-c", "echo last words; exit 4"], {
    name: "mute",
  });
  await assert.rejects(mute.waitForOutput(/never/), /mute: .*ended with status 4\nlast words/s);
  assert.equal(mute.exitCode, 4);
});

test("process: stopping ends what it started, even when it ignores SIGTERM", {
  timeout: 5_000,
}, async () => {
  const stubborn = await LabProcess.start(
    ["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"],
    { name: "stubborn" },
  );
  const pid = Number((await stubborn.waitForOutput(/\d+/))[0]);
  assert.equal(await stubborn.stop(100), 137);
  const state = async (): Promise<string> =>
    (await run(["ps", "-o", "stat=", "-p", String(pid)], { allowFailure: true })).stdout.trim();
  // ended: gone, or waiting for whoever inherited it to notice
  while (!/^(Z.*)?$/.test(await state())) await sleep(10);
});

test("process: the child does not inherit the test runner's protocol", async () => {
  assert.equal((await run(["sh", "-c", 'echo "[$NODE_TEST_CONTEXT]"'])).stdout, "[]\n");
});
