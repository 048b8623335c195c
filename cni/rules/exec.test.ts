import assert from "node:assert/strict";
import { test } from "node:test";
import { scriptRunner } from "./exec.ts";
import { feed, ipBatch, mustFeed, section, sections } from "./script.ts";

test("a script that hangs is killed with its children", { timeout: 5_000 }, async () => {
  const runner = scriptRunner(null, 100);
  await assert.rejects(runner.run("sleep 60 & sleep 60"), { code: "TIMED_OUT" });
});

test("an abort ends a script", { timeout: 5_000 }, async () => {
  const runner = scriptRunner(null, 60_000);
  const stop = new AbortController();
  const run = runner.run("sleep 60", stop.signal);
  stop.abort();
  await assert.rejects(run, { code: "TIMED_OUT" });
});

test("endless output is cut", { timeout: 20_000 }, async () => {
  await assert.rejects(scriptRunner(null, 15_000).run("cat /dev/zero"), { code: "COMMAND_FAILED" });
});

test("text fed to a command is not expanded, and its failure ends the script", async () => {
  const runner = scriptRunner(null, 5_000);
  const text = '$(reboot) `x` \\ "q" $HOME';
  assert.equal((await runner.run(feed("cat", text))).stdout, `${text}\n`);
  const failed = await runner.run(`${mustFeed("false", text, 90)}\necho after`);
  assert.deepEqual([failed.code, failed.stdout], [90, ""]);
  const passed = await runner.run(`${mustFeed("cat", "in", 90)}\necho after`);
  assert.deepEqual([passed.code, passed.stdout], [0, "in\nafter\n"]);
});

test("sections of an output are found again", async () => {
  const script = ["echo before", section("a"), "echo 1; echo 2", section("b"), "printf 3"].join(
    "\n",
  );
  const parts = sections((await scriptRunner(null, 5_000).run(script)).stdout);
  assert.deepEqual(
    [...parts].map(([name, text]) => [name, text.trim()]),
    [
      ["", "before"],
      ["a", "1\n2"],
      ["b", "3"],
    ],
  );
  assert.match(
    ipBatch("ipv6", ["rule show"], true),
    /^ip -6 -json -force -batch - <<'AMBIT_END'\n/,
  );
});
