// `lab.json`: how other processes find a running lab. Written last, removed first.
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
} from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LabError } from "./errors.ts";

export interface LabState {
  readonly version: 1;
  /** The sandbox's first process, as seen from outside: for nsenter. */
  readonly sandboxPid: number;
  /** True when the sandbox has a user namespace, which must be entered as well. */
  readonly userNamespace: boolean;
  readonly startedAt: string;
  readonly manifestDir: string;
  /** HTTP over a unix socket (control.ts). */
  readonly controlSocket: string;
  readonly nodes: readonly LabNodeState[];
  readonly istiod: { readonly address: string; readonly log: string };
}

export interface LabNodeState {
  readonly name: string;
  /** Inside the sandbox. */
  readonly netnsPath: string;
  /** From outside; `/proc/<sandboxPid>/root` before `netnsPath`. */
  readonly outerNetnsPath: string;
  readonly pid: number;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  /** Path of the admin port on the control socket. */
  readonly ztunnelAdmin: string;
  readonly logs: { readonly ztunnel: string; readonly cni: string };
}

/** Where a lab started by hand lives: AMBIT_LAB, /run for root, else the user's runtime directory. */
export function defaultStateDir(env: NodeJS.ProcessEnv = process.env): string {
  const { AMBIT_LAB: given, XDG_RUNTIME_DIR: runtime } = env;
  if (given !== undefined && given !== "") return given;
  if (process.getuid?.() === 0) return "/run/ambit-lab";
  return join(runtime !== undefined && runtime !== "" ? runtime : "/tmp", "ambit-lab");
}

/** What a lab keeps in its directory; `clearStateDir` removes exactly this. */
const STATE_NAMES = [
  "lab.json",
  "control.sock",
  "manifests",
  "nodes",
  "bin",
  "ca",
  "root-cert.pem",
  "jwks.json",
  "hosts",
  "resolv.conf",
  "istiod.log",
  "lab.log",
  "owner.pid",
  ".run",
];

/**
 * Makes a state directory only its owner can read: it holds keys and the control socket.
 * @throws {LabError} `CONFLICT` when it is another user's
 */
export function makeStateDir(dir: string): string {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  if (statSync(dir).uid !== process.getuid?.())
    throw new LabError("CONFLICT", `${dir} belongs to another user`);
  chmodSync(dir, 0o700);
  return dir;
}

/** Whoever wants a preview puts the manifests in a directory of this name (preview.ts). */
export const PREVIEW_PREFIX = "preview-";

export function isPreviewName(name: string): boolean {
  return /^preview-[A-Za-z0-9]{6}$/.test(name);
}

/** Removes what a lab left in its directory, and the directory when nothing else is in it. */
export function clearStateDir(dir: string, keep: readonly string[] = []): void {
  const isOurs = (name: string): boolean =>
    STATE_NAMES.includes(name) || isPreviewName(name) || /^capture-\d+-[\w-]+\.pcap$/.test(name);
  for (const name of readdirSync(dir))
    if (isOurs(name) && !keep.includes(name))
      rmSync(join(dir, name), { recursive: true, force: true });
  try {
    rmdirSync(dir);
  } catch {
    // not empty
  }
}

export async function writeLabState(dir: string, state: LabState): Promise<void> {
  const file = join(dir, "lab.json");
  await writeFile(`${file}.tmp`, `${JSON.stringify(state, null, 2)}\n`);
  await rename(`${file}.tmp`, file);
}

/** `null` when no lab runs there. */
export function readLabState(dir: string): LabState | null {
  try {
    return JSON.parse(readFileSync(join(dir, "lab.json"), "utf8")) as LabState;
  } catch {
    return null;
  }
}
