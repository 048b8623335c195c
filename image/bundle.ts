// Programs as a few files of plain JavaScript: what a process loads from there takes a quarter less memory than the
// sources, and starts sooner. For the image into a given place; for a working copy made whenever sources have changed.
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { buildSync, version } from "esbuild";

const ROOT = join(import.meta.dirname, "..");
const INPUTS = "inputs.json";
const MAIN = "main.mjs";
const KEEP_MS = 86_400_000;

/** What CommonJS packages expect of their surroundings. */
const BANNER = `import { createRequire as __createRequire } from "node:module";
const require = __createRequire(import.meta.url);
const __dirname = import.meta.dirname, __filename = import.meta.filename;`;

/**
 * Left out: native code; grpc-js's parser of .proto files, which our services never call for; the bundler, which a
 * program started from its sources uses.
 */
const EXTERNAL = ["koffi", "@grpc/proto-loader", "esbuild"];

/** By name of the file to make (`.mjs` is added): the source, from the root. One is called `main`. */
export type EntryPoints = Readonly<Record<string, string>>;

/** By path from the root: size and time of change. */
type Inputs = Readonly<Record<string, string>>;

/** Writes the bundle of one program; the same sources give the same bytes. */
export function bundleInto(outdir: string, entryPoints: EntryPoints): Inputs {
  const { metafile } = buildSync({
    absWorkingDir: ROOT,
    entryPoints,
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    metafile: true,
    platform: "node",
    format: "esm",
    target: "node26",
    // names stay: a stack trace must be readable without any other file
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    banner: { js: BANNER },
    external: EXTERNAL,
    logLevel: "error",
  });
  return Object.fromEntries(Object.keys(metafile.inputs).map((path) => [path, stampOf(path)]));
}

/**
 * Brings the bundle of a program that runs from its sources up to date. Several processes may do so at once.
 * @param dir  gets a folder per state of the sources, since a running program loads parts of its own late
 * @returns the file to run
 */
export function bundleSources(dir: string, entryPoints: EntryPoints): string {
  const pointer = join(dir, INPUTS);
  const known = readKnown(pointer);
  if (known !== null && isUpToDate(known.inputs)) return join(dir, known.folder, MAIN);
  mkdirSync(dir, { recursive: true });
  const scratch = mkdtempSync(join(dir, ".new-"));
  try {
    const inputs = bundleInto(scratch, entryPoints);
    const folder = createHash("sha256")
      .update(JSON.stringify([version, inputs]))
      .digest("hex")
      .slice(0, 16);
    moveInto(scratch, join(dir, folder));
    const text = JSON.stringify({ folder, inputs });
    const next = join(dir, `.${process.pid}.json`);
    writeFileSync(next, text);
    renameSync(next, pointer);
    removeOld(dir, folder);
    return join(dir, folder, MAIN);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function stampOf(path: string): string {
  const stat = statSync(join(ROOT, path), { throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.size} ${stat.mtimeMs}`;
}

function isUpToDate(inputs: Inputs): boolean {
  return Object.entries(inputs).every(([path, stamp]) => stamp !== "" && stampOf(path) === stamp);
}

function readKnown(file: string): { folder: string; inputs: Inputs } | null {
  try {
    const known = JSON.parse(readFileSync(file, "utf8")) as { folder: string; inputs: Inputs };
    return statSync(join(dirname(file), known.folder, MAIN), { throwIfNoEntry: false }) ===
      undefined
      ? null
      : known;
  } catch {
    return null; // not made yet, or not by us
  }
}

/** Earlier states of the sources; young ones may still be running. */
function removeOld(dir: string, current: string): void {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    const ageMs = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (name !== current && name !== INPUTS && ageMs > KEEP_MS)
      rmSync(path, { recursive: true, force: true });
  }
}

/** Another process may have made the same at the same time: then theirs is as good. */
function moveInto(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
  }
}
