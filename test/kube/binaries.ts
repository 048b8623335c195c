// The programs of a Kubernetes cluster: taken from KUBEBUILDER_ASSETS where a user has them, otherwise
// built once from Go modules (`binaries/`) into a cache outside the tree. etcd comes from the system.
import { existsSync, readFileSync } from "node:fs";
import { symlink } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { LabError } from "../../lab/errors.ts";
import { run } from "../../lab/process.ts";
import { cachePlace, fillOnce } from "./cache.ts";

const BUILT = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kubelet",
  "kube-proxy",
  "kubectl",
] as const;
export type BuiltProgram = (typeof BUILT)[number];
export type Program = BuiltProgram | "etcd";

const SOURCE = join(import.meta.dirname, "binaries");
const EXECUTABLE = "kube-all";
/** Two busy cores took ten minutes; a slower machine may take several times as long. */
const BUILD_TIMEOUT_MS = 60 * 60_000;
const PROGRESS_MS = 30_000;

/** Where a program is, built first if need be. @throws {LabError} `MISSING_PROGRAM`, `COMMAND` */
export async function program(name: Program): Promise<string> {
  const assets = process.env["KUBEBUILDER_ASSETS"] ?? "";
  if (assets !== "" && existsSync(join(assets, name))) return join(assets, name);
  if (name === "etcd") return onPath(name, "Debian package etcd-server; make kube-deps");
  return join(await builtPrograms(), name);
}

/** @throws {LabError} `MISSING_PROGRAM` */
export function onPath(name: string, from: string): string {
  // where Debian keeps daemons is not on every user's path
  const dirs = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  const found = dirs.map((dir) => join(dir, name)).find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new LabError("MISSING_PROGRAM", `${name} is not installed (${from})`);
}

/** @throws {LabError} `MISSING_PROGRAM` when there is no Go, or none that is new enough */
export async function requireGo(dir: string): Promise<void> {
  const wanted = /^go (\d+)\.(\d+)/m.exec(readFileSync(join(dir, "go.mod"), "utf8"));
  const needs = `Go ${wanted?.[1]}.${wanted?.[2]} or newer`;
  const how = "install it (https://go.dev/dl), or set KUBEBUILDER_ASSETS";
  let text: string;
  try {
    text = (await run(["go", "env", "GOVERSION"], { env: { GOTOOLCHAIN: "local" } })).stdout;
  } catch (cause) {
    throw new LabError("MISSING_PROGRAM", `Kubernetes is built with ${needs}: ${how}`, { cause });
  }
  const have = /^go(\d+)\.(\d+)/.exec(text.trim());
  const isOld =
    have !== null &&
    wanted !== null &&
    (Number(have[1]) - Number(wanted[1]) || Number(have[2]) - Number(wanted[2])) < 0;
  if (isOld)
    throw new LabError("MISSING_PROGRAM", `Kubernetes needs ${needs}, not ${text.trim()}: ${how}`);
}

let built: Promise<string> | null = null;

function builtPrograms(): Promise<string> {
  built ??= build().catch((error: unknown) => {
    built = null;
    throw error;
  });
  return built;
}

async function build(): Promise<string> {
  const goMod = readFileSync(join(SOURCE, "go.mod"), "utf8");
  const ldflags = linkerFlags(goMod);
  const place = cachePlace(
    "kubernetes",
    goMod,
    readFileSync(join(SOURCE, "main.go"), "utf8"),
    ldflags,
  );
  await fillOnce(place, async (dir) => {
    await requireGo(SOURCE);
    await using _progress = reportProgress(`Building Kubernetes, once, into ${place}`);
    const output = join(dir, EXECUTABLE);
    const flags = ["-trimpath", "-buildvcs=false", "-ldflags", ldflags];
    const argv = ["setpriv", "--pdeathsig", "KILL", "--", "go", "-C", SOURCE, "build", ...flags];
    await run([...argv, "-o", output, "."], {
      env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local" },
      timeoutMs: BUILD_TIMEOUT_MS,
    });
    for (const name of BUILT) await symlink(EXECUTABLE, join(dir, name));
  });
  return place;
}

/** Without symbols it is half as large; the version is what Kubernetes' own build would have written. */
function linkerFlags(goMod: string): string {
  const [, version = "v0.0.0"] = /\bk8s\.io\/kubernetes (v\d\S+)/.exec(goMod) ?? [];
  const [, major = "", minor = ""] = /^v(\d+)\.(\d+)/.exec(version) ?? [];
  const at = "k8s.io/component-base/version";
  return [
    "-s -w",
    `-X ${at}.gitVersion=${version} -X ${at}.gitMajor=${major} -X ${at}.gitMinor=${minor}`,
  ].join(" ");
}

function reportProgress(what: string): AsyncDisposable {
  const startMs = Date.now();
  process.stderr.write(`${what} (about ten minutes on two cores)\n`);
  const timer = setInterval(() => {
    process.stderr.write(`${what}: ${Math.round((Date.now() - startMs) / 1000)} s\n`);
  }, PROGRESS_MS);
  return {
    [Symbol.asyncDispose]: async () => clearInterval(timer),
  };
}
