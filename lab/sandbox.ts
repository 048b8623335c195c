// A lab runs inside its own network, mount and process namespaces: as root, or unprivileged with a
// user namespace on top. The program starts itself again in there, so nothing it makes outlives it.
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { LabError } from "./errors.ts";

const PREFIX = "ambit-lab-";
const OWNER_FILE = "owner.pid";
const NAMESPACES = ["--net", "--mount", "--pid", "--fork", "--kill-child"];
/** How long a lab may tidy up after SIGTERM or SIGINT before the kernel does it. */
const STOP_MS = 15_000;

export type SandboxStatus =
  | { readonly kind: "inside"; readonly stateDir: string; readonly outerPid: number }
  | { readonly kind: "unavailable"; readonly why: string };

export interface SandboxOptions {
  /** Kept after exit when given (`ambit lab up`); else a temporary one that is removed. */
  readonly stateDir?: string;
}

/** Where this process is, without changing anything; `null` outside. */
export function sandbox(): Extract<SandboxStatus, { kind: "inside" }> | null {
  const pid = process.env["AMBIT_SANDBOX_PID"];
  const stateDir = process.env["AMBIT_SANDBOX_STATE"];
  if (pid === undefined || stateDir === undefined) return null;
  return { kind: "inside", stateDir, outerPid: Number(pid) };
}

/**
 * Call first thing in a program or test file. Outside a sandbox it starts the same program again
 * inside one, waits, and ends this process with its exit code: it does not return. Inside it returns
 * at once. Where namespaces cannot be made it returns why.
 */
export async function enterSandbox(options: SandboxOptions = {}): Promise<SandboxStatus> {
  const here = sandbox();
  if (here !== null) return here;
  const how = sandboxFlags();
  if (how.kind === "unavailable") return how;
  sweepStaleStates();
  const stateDir = options.stateDir ?? mkdtempSync(join(tmpdir(), PREFIX));
  writeFileSync(join(stateDir, OWNER_FILE), String(process.pid));
  const removeState = (): void => {
    if (options.stateDir !== undefined) return;
    if (process.env["AMBIT_LAB_KEEP"] === "1")
      process.stderr.write(`lab files kept in ${stateDir}\n`);
    else rmSync(stateDir, { recursive: true, force: true });
  };
  process.once("exit", removeState);
  process.exit(await runInside(how.flags, stateDir));
}

/** As `enterSandbox`, for programs that cannot go on without. @throws {LabError} `NO_SANDBOX` */
export async function requireSandbox(
  options: SandboxOptions = {},
): Promise<Extract<SandboxStatus, { kind: "inside" }>> {
  const status = await enterSandbox(options);
  if (status.kind === "inside") return status;
  throw new LabError("NO_SANDBOX", status.why);
}

/** The `unshare` flags that work for this user, or why none do. */
export function sandboxFlags():
  | { readonly kind: "available"; readonly flags: string[] }
  | Extract<SandboxStatus, { kind: "unavailable" }> {
  const tried: string[] = [];
  const candidates =
    process.getuid?.() === 0
      ? [[], ["--user", "--map-root-user"]]
      : [["--user", "--map-root-user"]];
  for (const user of candidates) {
    const flags = [...user, ...NAMESPACES];
    const probe = spawnSync(
      "unshare",
      [...flags, "sh", "-c", "mount -t proc proc /proc && ip link set lo up"],
      {
        encoding: "utf8",
        timeout: 10_000,
      },
    );
    if (probe.status === 0) return { kind: "available", flags };
    const why = probe.error?.message ?? probe.stderr.trim();
    tried.push(`unshare ${flags.join(" ")}: ${why === "" ? `status ${probe.status}` : why}`);
  }
  const why = [
    "This user cannot make the namespaces a lab lives in (run as root, or allow unprivileged user namespaces:",
    "sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0, kernel.apparmor_restrict_unprivileged_userns=0)",
    ...tried,
  ].join("\n  ");
  return { kind: "unavailable", why };
}

async function runInside(flags: string[], stateDir: string): Promise<number> {
  const child = spawn(
    // the kernel ends `unshare` when we die, and `unshare --kill-child` then ends the sandbox
    "setpriv",
    [
      "--pdeathsig",
      "KILL",
      "unshare",
      ...flags,
      "sh",
      join(import.meta.dirname, "sandbox-init.sh"),
      stateDir,
      process.execPath,
      ...process.execArgv,
      ...process.argv.slice(1),
    ],
    {
      stdio: "inherit",
      env: { ...process.env, AMBIT_SANDBOX_USERNS: flags.includes("--user") ? "1" : "0" },
    },
  );
  const stop = (signal: NodeJS.Signals): void => {
    // a terminal sends SIGINT to the whole group; anything else must be passed on by us
    const inner = child.pid === undefined ? undefined : innermost(child.pid);
    if (signal !== "SIGINT" && inner !== undefined) process.kill(inner, signal);
    setTimeout(() => child.kill("SIGKILL"), STOP_MS).unref();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  return new Promise((resolve, reject) => {
    child.once("error", (cause) =>
      reject(new LabError("NO_SANDBOX", "Cannot start setpriv (package util-linux)", { cause })),
    );
    child.once("exit", (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/** The lab's own process: unshare → sandbox-init.sh → node. */
function innermost(pid: number): number | undefined {
  try {
    const childOf = (parent: number): number =>
      Number(readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ")[0]);
    const inner = childOf(childOf(pid));
    return Number.isInteger(inner) && inner > 1 ? inner : undefined;
  } catch {
    return undefined;
  }
}

/** Removes state directories of labs whose owner was killed before it could. */
function sweepStaleStates(): void {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const dir = join(tmpdir(), name);
    try {
      if (statSync(dir).uid !== process.getuid?.()) continue;
      const owner = Number(readFileSync(join(dir, OWNER_FILE), "utf8"));
      if (!existsSync(`/proc/${owner}`)) rmSync(dir, { recursive: true, force: true });
    } catch {
      // just being made or removed by its owner
    }
  }
}
