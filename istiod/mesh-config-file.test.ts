// The mesh configuration is followed: good versions take effect, others are named and change nothing.
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#lib/base/clock.ts";
import { createLogger } from "#lib/obs/log.ts";
import { type MeshConfig, readMeshConfig } from "./mesh-config.ts";
import { MeshConfigFile } from "./mesh-config-file.ts";
import { Metrics } from "./metrics.ts";

function rig(t: TestContext, text: string) {
  const dir = mkdtempSync(join(tmpdir(), "ambit-mesh-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "mesh.yaml");
  writeFileSync(path, text);
  const seen: MeshConfig[] = [];
  const lines: string[] = [];
  const refuse = { next: false };
  const metrics = new Metrics("test");
  const file = new MeshConfigFile({
    path,
    initial: readMeshConfig(path, assert.fail),
    override: (mesh) => mesh,
    onChange: (mesh) => {
      if (refuse.next) throw new Error("cannot be compiled");
      seen.push(mesh);
    },
    metrics,
    log: createLogger({
      scope: "test",
      level: "info",
      format: "json",
      destination: { write: (line: string) => void lines.push(line) },
    }),
    clock: systemClock,
  });
  const put = (next: string): void => writeFileSync(path, next);
  const counted = async (): Promise<string> => await metrics.registry.metrics();
  return { dir, path, file, seen, lines, put, refuse, counted };
}

test("a good version takes effect, one that says the same does not", async (t) => {
  const { file, seen, put, counted } = rig(t, "trustDomain: a\n");
  await file.look();
  put("# a comment\ntrustDomain: a\n");
  await file.look();
  assert.equal(seen.length, 0);
  put("trustDomain: b\n");
  await file.look();
  await file.look();
  assert.deepEqual(
    seen.map((m) => m.trustDomain),
    ["b"],
  );
  assert.match(await counted(), /mesh_config_reloads_total\{result="applied"\} 1/);
});

test("a bad version is named by file, line and field, once, and the one in force stays", async (t) => {
  const { file, path, seen, lines, put } = rig(t, "trustDomain: a\n");
  put("rootNamespace: x\ntrustDomain: []\n");
  await file.look();
  await file.look();
  assert.equal(seen.length, 0);
  assert.equal(lines.length, 1);
  assert.ok(lines[0]?.includes(`MESH_CONFIG ${path}:2: trustDomain is not a text`));
  put("trustDomain: a\n");
  await file.look();
  assert.equal(seen.length, 0, "back to what is in force: no change");
  put("rootNamespace: x\ntrustDomain: []\n");
  await file.look();
  assert.equal(lines.length, 2, "a fault that comes again is reported again");
});

test("an empty or missing file is one that is being written, not one of defaults", async (t) => {
  const { file, path, seen, lines, put } = rig(t, "trustDomain: a\n");
  put("\n");
  await file.look();
  rmSync(path);
  await file.look();
  assert.equal(seen.length, 0);
  assert.match(lines[0] ?? "", /is empty/);
  assert.match(lines[1] ?? "", /ENOENT/);
});

test("what cannot be put in force is tried again with the next version", async (t) => {
  const { file, seen, lines, put, refuse } = rig(t, "trustDomain: a\n");
  refuse.next = true;
  put("trustDomain: b\n");
  await file.look();
  assert.match(lines[0] ?? "", /cannot be compiled/);
  refuse.next = false;
  put("trustDomain: b\nrootNamespace: r\n");
  await file.look();
  assert.equal(seen.length, 1);
});

test("the watch sees files swapped by rename and by link", { timeout: 10_000 }, async (t) => {
  const { dir, path, file, seen } = rig(t, "trustDomain: a\n");
  const end = new AbortController();
  const watching = file.watch(end.signal);
  await sleep(20);
  writeFileSync(join(dir, "next"), "trustDomain: b\n");
  renameSync(join(dir, "next"), path);
  while (seen.length < 1) await sleep(5);
  writeFileSync(join(dir, "linked"), "trustDomain: c\n");
  symlinkSync("linked", join(dir, "link"));
  renameSync(join(dir, "link"), path);
  while (seen.length < 2) await sleep(5);
  assert.deepEqual(
    seen.map((m) => m.trustDomain),
    ["b", "c"],
  );
  end.abort();
  await watching;
});
