// The unified diff, held against diff(1) where there is one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { unifiedDiff } from "./diff.ts";

const TEXT = Array.from({ length: 40 }, (_, i) => `line ${i}`);
const text = (lines: readonly string[]): string => lines.map((l) => `${l}\n`).join("");

for (const [name, after] of [
  ["a line changed", TEXT.with(20, "other")],
  ["two far apart", TEXT.with(3, "x").with(30, "y")],
  ["two close together", TEXT.with(10, "x").with(15, "y")],
  ["the first removed", TEXT.slice(1)],
  ["one appended", [...TEXT, "more"]],
  ["all removed", []],
] as const)
  test(`${name}: patch(1) accepts it`, (t) => {
    const dir = mkdtempSync(join(tmpdir(), "ambit-diff-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const file = join(dir, "f");
    writeFileSync(file, text(TEXT));
    const diff = unifiedDiff(text(TEXT), text(after), "f");
    const real = spawnSync("diff", ["-u", file, "-"], { input: text(after) });
    if (real.error !== undefined) return t.skip("no diff on this machine");
    const hunks = (d: string): string => d.split("\n").slice(2).join("\n");
    assert.equal(hunks(diff), hunks(real.stdout.toString()));
  });

test("equal texts have no diff", () => assert.equal(unifiedDiff("a\n", "a\n", "f"), ""));
