import assert from "node:assert/strict";
import { test } from "node:test";
import { follow } from "./follow.ts";
import type { MeshSource } from "./mesh-source.ts";

/** A ztunnel whose every connection serves the next of `scripts`: lines, then an end or an error. */
function ztunnel(scripts: readonly (readonly (string | Error)[])[]): MeshSource {
  let at = 0;
  return {
    name: "a test",
    confidence: "live",
    statusCommand: "ambit lab status",
    nodes: async () => ["a"],
    fetch: async () => assert.fail("no documents here"),
    async *lines() {
      for (const item of scripts[at++] ?? [new Error("refused")]) {
        if (typeof item !== "string") throw item;
        yield item;
      }
    },
  };
}

async function take(
  source: MeshSource,
  count: number,
): Promise<{ lines: string[]; lost: string[] }> {
  const stop = new AbortController();
  const lines: string[] = [];
  const lost: string[] = [];
  const clock = { now: () => 0, sleep: async () => undefined };
  const options = {
    signal: stop.signal,
    onLost: (_: string, error: Error) => void lost.push(error.message),
    clock,
    history: true,
  };
  for await (const line of follow(source, "a", (l) => l, options)) {
    lines.push(line);
    if (lines.length === count) stop.abort();
  }
  return { lines, lost };
}

test("a restarted ztunnel is followed on, without what was already seen", async () => {
  const source = ztunnel([["t1", "t2"], [new Error("refused")], ["t1", "t2", "t3"]]);
  assert.deepEqual(await take(source, 3), {
    lines: ["t1", "t2", "t3"],
    lost: ["the event stream ended"],
  });
});

test("a ztunnel that never answered is an error", async () => {
  await assert.rejects(take(ztunnel([[new Error("refused")]]), 1), /refused/);
});
