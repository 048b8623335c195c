// The tree for the image: the same bytes each time, and every program in it starts, far from the sources.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { buildImage } from "./build.ts";

const PROGRAMS = ["istiod", "ztunnel", "waypoint", "cni"].filter((name) =>
  existsSync(join(import.meta.dirname, "..", name)),
);

let dir: string;
let tree: string;

before(() => {
  // nothing above this place has node_modules
  dir = mkdtempSync(join(tmpdir(), "ambit-image-"));
  tree = join(dir, "one");
  buildImage(tree);
});
after(() => rmSync(dir, { recursive: true, force: true }));

function files(root: string): Map<string, string> {
  return new Map(
    readdirSync(root, { recursive: true, encoding: "utf8" })
      .toSorted()
      .map((path) => {
        const stat = statSync(join(root, path));
        const content = stat.isFile() ? readFileSync(join(root, path)) : "";
        const hash = createHash("sha256").update(content).digest("hex");
        return [path, `${stat.mode.toString(8)} ${stat.mtimeMs} ${hash}`];
      }),
  );
}

test("the same sources make the same tree", { timeout: 60_000 }, () => {
  const again = join(dir, "two");
  buildImage(again);
  assert.deepEqual(files(again), files(tree));
  rmSync(again, { recursive: true });
});

test("it holds what runs, and nothing for development", () => {
  const names = readdirSync(join(tree, "opt/ambit/node_modules"), { recursive: true }).map(String);
  assert.deepEqual(
    names.filter((name) => name.endsWith(".node")).length,
    1,
    "one native part, of this machine",
  );
  const paths = [...files(tree).keys()];
  assert.ok(!paths.some((path) => /\.(ts|map|cc|h|md)$/.test(path)));
  assert.ok(paths.includes("opt/cni/bin/libatomic.so.1"));
  for (const path of ["opt/ambit/bin/node", "opt/ambit/bin/ambit-part", "opt/cni/bin/istio-cni"])
    assert.equal(statSync(join(tree, path)).mode & 0o777, 0o755, path);
});

for (const program of PROGRAMS)
  test(`${program} starts, and names the setting it misses`, { timeout: 30_000 }, () => {
    // settings no program can start with
    const env = { XDS_ADDRESS: "nowhere:x", CA_ADDRESS: "nowhere:x", PATH: "/usr/bin" };
    const { status, stdout, stderr } = spawnSync(
      join(tree, "opt/ambit/bin/node"),
      [join(tree, "opt/ambit", program, "main.mjs")],
      { env, encoding: "utf8", cwd: dir, timeout: 20_000 },
    );
    const output = stdout + stderr;
    assert.ok(status !== 0 && status !== null, output);
    assert.match(output, /[A-Z]+_[A-Z]+|KUBECONFIG|kubeconfig/, "names a setting");
    assert.doesNotMatch(output, /^\s+at .*:\d+:\d+/m, "no stack trace");
  });

test("the plugin runs without Node, package or sources", () => {
  const bin = join(dir, "host");
  cpSync(join(tree, "opt/cni/bin"), bin, { recursive: true });
  const { stdout, stderr, status } = spawnSync(join(bin, "istio-cni"), [], {
    env: { CNI_COMMAND: "VERSION", NODE_OPTIONS: "--no-such-option" },
    input: "",
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /"cniVersion":"1.1.0"/);
});

test("the launcher names the programs there are", () => {
  const launcher = join(import.meta.dirname, "ambit-part");
  for (const [args, status] of [
    [[], 64],
    [["../bin/node"], 64],
    [["pilot"], 64],
  ] as const) {
    const result = spawnSync(launcher, args, { encoding: "utf8" });
    assert.equal(result.status, status, result.stderr);
    assert.match(result.stderr, /istiod, ztunnel, waypoint or cni/);
  }
});
