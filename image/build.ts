// The image's own files as a tree to copy to its root: Node, each program as a bundle, the CNI plugin.
// The same sources and packages give the same bytes. Run: node image/build.ts [directory, default build/image]
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { ENTRY_POINTS as ZTUNNEL } from "../ztunnel/bundle/build.ts";
import { bundleInto, type EntryPoints } from "./bundle.ts";
import { withoutUnloaded, withRunpath } from "./elf.ts";
import { singleExecutable } from "./single-executable.ts";

const ROOT = join(import.meta.dirname, "..");
const HOME = "opt/ambit";
/** The node agent copies every file of this folder to the host. */
const PLUGINS = "opt/cni/bin";

const PROGRAMS: Readonly<Record<string, EntryPoints>> = {
  istiod: { main: "istiod/main.ts" },
  ztunnel: ZTUNNEL,
  waypoint: { main: "waypoint/main.ts" },
  cni: { main: "cni/agent/main.ts" },
};

/** What koffi needs of its package at run time; its native part is a package of its own. */
const KOFFI = ["package.json", "index.js", "src/koffi/index.js", "src/koffi/src/static.js"];

const LIBRARY_DIRS = { x64: "/lib/x86_64-linux-gnu", arm64: "/lib/aarch64-linux-gnu" } as const;
/** Few hosts have this library, and Node asks for it. It needs nothing newer than glibc 2.14. */
const HOST_LIBRARY = "libatomic.so.1";

type Arch = keyof typeof LIBRARY_DIRS;

/** Makes the tree anew and puts it in the place of an earlier one. */
export function buildImage(output: string): void {
  const arch = archOrThrow();
  mkdirSync(dirname(output), { recursive: true });
  const scratch = mkdtempSync(join(dirname(output), ".image-"));
  try {
    const tree = join(scratch, "tree");
    for (const [name, entryPoints] of Object.entries(PROGRAMS))
      if (Object.values(entryPoints).every((path) => existsSync(join(ROOT, path))))
        bundleInto(join(tree, HOME, name), entryPoints);
    copyKoffi(join(tree, HOME, "node_modules"), arch);
    const { name, version } = readJson(join(ROOT, "package.json"));
    write(
      join(tree, HOME, "package.json"),
      `${JSON.stringify({ name, version, type: "module" })}\n`,
    );
    write(join(tree, HOME, "LICENSE"), readFileSync(join(ROOT, "LICENSE")));
    write(
      join(tree, HOME, "bin/ambit-part"),
      readFileSync(join(import.meta.dirname, "ambit-part")),
      0o755,
    );
    const node = withoutUnloaded(
      readFileSync(join(ROOT, `node_modules/node-linux-${arch}/bin/node`)),
    );
    write(join(tree, HOME, "bin/node"), node, 0o755);
    const pluginNode = join(scratch, "node");
    write(pluginNode, withRunpath(node, "$ORIGIN"), 0o755);
    singleExecutable(
      join(ROOT, "cni/plugin/main.ts"),
      join(tree, PLUGINS, "istio-cni"),
      pluginNode,
    );
    write(join(tree, PLUGINS, HOST_LIBRARY), readFileSync(join(LIBRARY_DIRS[arch], HOST_LIBRARY)));
    settle(tree);
    rmSync(output, { recursive: true, force: true });
    renameSync(tree, output);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function archOrThrow(): Arch {
  const { arch, platform } = process;
  if (platform === "linux" && (arch === "x64" || arch === "arm64")) return arch;
  throw new Error(`Images are built on Linux x64 or arm64, not on ${platform} ${arch}`);
}

function copyKoffi(modules: string, arch: Arch): void {
  const from = join(ROOT, "node_modules");
  for (const path of KOFFI) copy(join(from, "koffi", path), join(modules, "koffi", path));
  const native = `@koromix/koffi-linux-${arch}`;
  for (const path of ["package.json", "index.js", `linux_${arch}/koffi.node`])
    copy(join(from, native, path), join(modules, native, path));
}

function readJson(path: string): { readonly name?: unknown; readonly version?: unknown } {
  return JSON.parse(readFileSync(path, "utf8")) as { name?: unknown; version?: unknown };
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

function write(path: string, content: string | Uint8Array, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content, { mode });
}

/** Modes and times that depend on nobody's umask or clock. */
function settle(path: string): void {
  const stat = statSync(path);
  if (stat.isDirectory()) for (const name of readdirSync(path)) settle(join(path, name));
  chmodSync(path, stat.isDirectory() || (stat.mode & 0o100) !== 0 ? 0o755 : 0o644);
  lutimesSync(path, 0, 0);
}

function bytesIn(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.size;
  return readdirSync(path).reduce((sum, name) => sum + bytesIn(join(path, name)), 0);
}

if (import.meta.main) {
  const output = resolve(process.argv[2] ?? join(ROOT, "build/image"));
  buildImage(output);
  for (const part of [HOME, PLUGINS])
    for (const name of readdirSync(join(output, part)).toSorted()) {
      const mebibytes = bytesIn(join(output, part, name)) / 2 ** 20;
      console.log(`${mebibytes.toFixed(1).padStart(8)} MiB  ${part}/${name}`);
    }
  console.log(relative(process.cwd(), output));
}
