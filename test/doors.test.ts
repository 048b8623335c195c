// The doors of the house (CONTRIBUTING.md): which room may import which. A wrong import fails here.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "..");
/** Lowest first: an earlier room never imports a later one. */
const LIB_ORDER = [
  "base",
  "net",
  "sys",
  "obs",
  "wire",
  "grpc",
  "model",
  "pki",
  "hbone",
  "xds",
  "proxy",
  "kube",
];
const PROGRAMS = ["ztunnel", "waypoint", "istiod", "cni", "cli", "lab"];
const PURE = ["lib/model", "lib/wire", "istiod/translate"];
const IMPURE_MODULES =
  /^node:(fs|net|http|https|http2|child_process|timers|dgram|tls|worker_threads)/;

interface Import {
  readonly file: string;
  readonly target: string;
  readonly spec: string;
  readonly typeOnly: boolean;
}

function* sources(dir: string): Generator<string> {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (entry.name.endsWith(".ts") && !entry.name.endsWith(".gen.ts")) yield path;
  }
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, "utf8");
  const found: Import[] = [];
  for (const m of text.matchAll(
    /^(?:import|export)\s+(type\s)?[^"';]*?from\s+"([^"]+)"|import\("([^"]+)"\)/gm,
  )) {
    const spec = m[2] ?? m[3] ?? "";
    const target = spec.startsWith("#lib/")
      ? join("lib", spec.slice(5))
      : spec.startsWith(".")
        ? relative(ROOT, resolve(dirname(file), spec))
        : spec;
    found.push({ file: relative(ROOT, file), target, spec, typeOnly: m[1] !== undefined });
  }
  return found;
}

const all = ["lib", ...PROGRAMS, "test"].flatMap((dir) => {
  try {
    return [...sources(join(ROOT, dir))].flatMap(importsOf);
  } catch {
    return []; // a room not built yet
  }
});

test("lib rooms only import earlier rooms", () => {
  for (const i of all) {
    const from = /^lib\/([^/]+)\//.exec(i.file)?.[1];
    const to = /^lib\/([^/]+)\//.exec(i.target)?.[1];
    if (from === undefined || to === undefined || i.file.endsWith(".test.ts")) continue;
    assert.ok(LIB_ORDER.includes(from), `lib/${from} is no room of LIB_ORDER (test/doors.test.ts)`);
    assert.ok(
      LIB_ORDER.indexOf(to) <= LIB_ORDER.indexOf(from),
      `${i.file} imports the later room ${i.target}`,
    );
  }
});

test("lib imports no program, and nothing imports test/", () => {
  for (const i of all) {
    const top = i.target.split("/")[0] ?? "";
    if (i.file.startsWith("lib/"))
      assert.ok(
        !PROGRAMS.includes(top) || i.file.endsWith(".test.ts"),
        `${i.file} imports ${i.target}`,
      );
    if (!i.file.startsWith("test/") && !i.file.endsWith(".test.ts"))
      assert.notEqual(top, "test", `${i.file} imports ${i.target}`);
  }
});

test("programs meet on the wire, not by import", () => {
  for (const i of all) {
    const from = i.file.split("/")[0] ?? "";
    const to = i.target.split("/")[0] ?? "";
    if (!PROGRAMS.includes(from) || !PROGRAMS.includes(to) || from === to) continue;
    if (from === "cli" && to === "lab") continue; // `ambit demo` and `ambit lab` are the lab's front end
    assert.fail(`${i.file} imports ${i.target}`);
  }
});

test("only lib/sys loads the native interface", () => {
  for (const i of all) if (i.spec === "koffi") assert.match(i.file, /^lib\/sys\//);
});

test("pure rooms touch no socket, file, timer or process", () => {
  for (const i of all) {
    if (i.file.endsWith(".test.ts") || !PURE.some((p) => i.file.startsWith(`${p}/`))) continue;
    assert.ok(!IMPURE_MODULES.test(i.spec), `${i.file} imports ${i.spec}`);
  }
});
