// The bundle follows the sources, is made once for each state of them, and runs.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bundle } from "./build.ts";

const ROOT = join(import.meta.dirname, "../..");

function scratch(): { dir: string } & Disposable {
  // below the root, where the bundle finds its native packages
  mkdirSync(join(ROOT, "build"), { recursive: true });
  const dir = mkdtempSync(join(ROOT, "build/test-bundle-"));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

test("made once while nothing changes, and the older states go after a day", () => {
  using s = scratch();
  const old = join(s.dir, "0123456789abcdef");
  mkdirSync(old);
  utimesSync(old, 1, 1);
  const file = bundle(s.dir);
  const made = readdirSync(s.dir).toSorted();
  assert.equal(made.length, 2, made.join(" "));
  assert.equal(bundle(s.dir), file);
  assert.deepEqual(readdirSync(s.dir).toSorted(), made);
});

test("a record of other sources, or one that cannot be read, makes it anew", () => {
  using s = scratch();
  const file = bundle(s.dir);
  for (const text of [
    '{"folder":"gone","inputs":{}}',
    "{",
    JSON.stringify({ folder: file.split("/").at(-2), inputs: { "ztunnel/run.ts": "1 1" } }),
  ]) {
    writeFileSync(join(s.dir, "inputs.json"), text);
    assert.equal(bundle(s.dir), file, "the same sources, the same folder");
  }
});

test("the bundled program starts, and names what is wrong with its configuration", () => {
  using s = scratch();
  const { status, stdout, stderr } = spawnSync(process.execPath, [bundle(s.dir)], {
    env: { XDS_ADDRESS: "nowhere:x", AMBIT_RESTARTED: "", TMPDIR: tmpdir() },
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.equal(status, 1, stderr);
  assert.match(stdout, /XDS_ADDRESS/);
});
