// A client has everything once each type was acknowledged; refusals and other types do not count.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FirstSync } from "./first-sync.ts";

test("everything has come when each type was acknowledged once", async () => {
  const sync = new FirstSync("a", "b");
  let isDone = false;
  void sync.done.then(() => (isDone = true));
  for (const [typeUrl, acked] of [
    ["a", true],
    ["a", true],
    ["c", true],
    ["b", false],
  ] as const) {
    sync.answered({ typeUrl, acked });
    await Promise.resolve();
    assert.equal(isDone, false, typeUrl);
  }
  sync.answered({ typeUrl: "b", acked: true });
  await sync.done;
});
