// The tour of README.md, run as it is written: a command that no longer works, or ends otherwise than the
// text says, fails here.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { sandboxFlags } from "../../lab/sandbox.ts";

const how = sandboxFlags();
if (how.kind === "unavailable" && process.env["AMBIT_REQUIRE_LAB"] === "1")
  throw new Error(how.why);
const needsLab = how.kind === "unavailable" ? { skip: how.why } : { timeout: 120_000 };

const ROOT = resolve(import.meta.dirname, "../..");
/** A line that is to end with another status than 0 says so: `… # exits 3`. */
const EXITS = /^(.*\S)\s+# exits (\d+)$/gm;

function tour(): string {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const section = /^## A tour by hand$([^]*?)^## /m.exec(readme)?.[1] ?? "";
  return [...section.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, code]) => code).join("");
}

test("the README's tour runs as written", needsLab, () => {
  const script = tour().replace(
    EXITS,
    (_, command: string, status: string) =>
      `status=0; ${command} || status=$?; [ $status -eq ${status} ]`,
  );
  assert.match(script, /ambit lab up[^]*ambit tunnels[^]*ambit lab down/);
  const dir = mkdtempSync(join(tmpdir(), "ambit-readme-"));
  const env = { ...process.env, AMBIT_LAB: join(dir, "lab") };
  try {
    const run = spawnSync(
      "bash",
      ["-c", `set -e; set -o pipefail; shopt -s expand_aliases; set -v\n${script}`],
      {
        cwd: ROOT,
        env,
        encoding: "utf8",
        timeout: 100_000,
      },
    );
    assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
    assert.match(run.stdout, /shop\/client +shop\/server:8080 +direct +mTLS/);
    assert.match(run.stdout, /^DENIED at D4 .*\npath .*\nwhy +DENY shop\/nobody-in matches/m);
  } finally {
    spawnSync(join(ROOT, "cli/bin/ambit"), ["lab", "down"], { env, timeout: 30_000 });
    rmSync(dir, { recursive: true, force: true });
  }
});
