// The demo as a user plays it: every step sees what it should, and the program leaves nothing running.
import assert from "node:assert/strict";
import { resolve } from "node:path";
import { test } from "node:test";
import { run } from "../../../lab/process.ts";

const PROGRAM = resolve(import.meta.dirname, "../demo.ts");
const skip =
  process.getuid?.() === 0 || process.env["AMBIT_REQUIRE_LAB"] === "1"
    ? false
    : "Kubelets and containerd need root";

interface Report {
  readonly ok: boolean;
  readonly steps: readonly { readonly title: string; readonly error?: string }[];
}

test("make kube-demo plays its story to the end", { skip }, async () => {
  const { stdout, stderr } = await run([process.execPath, PROGRAM, "--json"], {
    allowFailure: true,
    timeoutMs: 420_000,
  });
  const report = JSON.parse(stdout) as Report;
  assert.ok(report.ok, stderr);
  assert.equal(report.steps.length, 12);
});
