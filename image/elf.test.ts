// The edited executable runs, is smaller, and finds a library beside itself before the system's.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { withoutUnloaded, withRunpath } from "./elf.ts";

const dir = mkdtempSync(join(tmpdir(), "ambit-elf-"));
after(() => rmSync(dir, { recursive: true }));

test("Node without what is never loaded is Node", () => {
  const whole = readFileSync(process.execPath);
  const short = withoutUnloaded(whole);
  assert.ok(short.length < whole.length * 0.9, `${short.length} of ${whole.length} bytes`);
  const file = join(dir, "node");
  writeFileSync(file, short, { mode: 0o755 });
  const { stdout, stderr } = spawnSync(file, ["-p", "6 * 7"], { encoding: "utf8" });
  assert.equal(stdout, "42\n", stderr);
});

test("a library beside the executable is the first that is tried", () => {
  const file = join(dir, "node-here");
  writeFileSync(file, withRunpath(readFileSync(process.execPath), "$ORIGIN"), { mode: 0o755 });
  const { stdout, stderr } = spawnSync(file, ["-p", "6 * 7"], {
    encoding: "utf8",
    env: { LD_DEBUG: "libs" },
  });
  assert.equal(stdout, "42\n", stderr.slice(-2000));
  const tried = stderr.split("\n").filter((line) => line.includes("trying file="));
  assert.ok(tried[0]?.includes(dir), tried[0] ?? "nothing was tried");
  // and the system's, where there is none beside
  assert.ok(tried.some((line) => /trying file=\/(usr\/)?lib/.test(line)));
});

test("what is no executable, or has no room, is refused", () => {
  assert.throws(() => withoutUnloaded(Buffer.alloc(64)), /Not a little-endian 64-bit ELF file/);
  const node = readFileSync(process.execPath);
  const once = withRunpath(node, "$ORIGIN");
  assert.throws(() => withRunpath(once, "$ORIGIN"), /No room/);
  assert.throws(() => withRunpath(node, "x".repeat(100_000)), /No room/);
});
