import assert from "node:assert/strict";
import { test } from "node:test";
import type { Level } from "#lib/obs/log-filter.ts";
import { filterAccessLines } from "./access-lines.ts";

const PLAIN = `t1\tinfo\taccess\tconnection complete\ta="\terror\t"\nt2\terror\taccess\tconnection complete\tb\nt3\twarn\taccess\tconnection failed\tc\n`;
const JSON_LINES = `{"level":"info","time":"t1"}\n{"level":"error","time":"t2"}\n{"level":"warn","time":"t3"}\n`;

function filtered(text: string, level: Level): string {
  return Buffer.from(filterAccessLines(Buffer.from(text), level)).toString();
}

for (const c of [
  { level: "info", kept: [0, 1, 2] },
  { level: "warn", kept: [1, 2] },
  { level: "error", kept: [1] },
] as const)
  for (const [format, text] of [
    ["plain", PLAIN],
    ["json", JSON_LINES],
  ] as const)
    test(`access lines at ${c.level}, ${format}`, () => {
      const lines = text.split("\n");
      assert.equal(filtered(text, c.level), c.kept.map((i) => `${lines[i]}\n`).join(""));
    });

test("a batch without kept lines is nothing", () => {
  assert.equal(filtered(PLAIN.slice(0, PLAIN.indexOf("\n") + 1), "error"), "");
});
