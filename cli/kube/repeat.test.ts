// `--watch`: what is shown, and what happens while nobody answers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KubeError } from "#lib/kube/errors.ts";
import { repeat } from "./repeat.ts";

/** Ends when the answers are used up. */
async function watched(answers: readonly (string | Error)[]): Promise<[string[], string[]]> {
  const stop = new AbortController();
  const shown: string[] = [];
  const told: string[] = [];
  const queue = [...answers];
  const look = async (): Promise<string> => {
    const next = queue.shift();
    if (queue.length === 0) stop.abort();
    if (next instanceof Error) throw next;
    return next ?? "";
  };
  const io = { signal: stop.signal, err: (line: string) => void told.push(line) };
  await repeat(
    look,
    (v) => v,
    async (v) => void shown.push(v),
    io,
  );
  return [shown, told];
}

const silent = new KubeError("UNAVAILABLE", "no connection");

test("only what changed is shown, and a silence is said once and waited out", async () => {
  const [shown, told] = await watched(["a", "a", silent, silent, "b"]);
  assert.deepEqual(shown, ["a", "b"]);
  assert.deepEqual(told, ["warning: no connection; asking again"]);
});

test("a first look that fails, and a refusal at any time, end it", async () => {
  await assert.rejects(watched([silent, "a"]), { message: "no connection" });
  const refused = new KubeError("FORBIDDEN", "not allowed");
  await assert.rejects(watched(["a", refused, "b"]), { message: "not allowed" });
});
