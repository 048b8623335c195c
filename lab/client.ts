// The other end of the control socket, for the CLI: start a lab in the background, ask it, run commands in
// it, end it.
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { IpFamilies } from "./address-plan.ts";
import { LabError } from "./errors.ts";
import { clearStateDir, makeStateDir, readLabState, type LabState } from "./state.ts";

const POLL_MS = 50;

export interface LabUpOptions {
  readonly dir: string;
  readonly nodes: readonly string[];
  readonly families: IpFamilies;
  /** Start istiod, agents and ztunnels as well. */
  readonly mesh: boolean;
  readonly timeoutMs?: number;
}

export interface LabPodStatus {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  readonly ips: readonly string[];
  readonly netnsPath: string;
  readonly process: {
    readonly pid: number;
    readonly running: boolean;
    readonly exitCode: number | null;
  } | null;
  readonly enter: readonly string[];
}

export interface LabPartStatus {
  readonly name: "istiod" | "ztunnel" | "cni";
  readonly node: string | null;
  readonly logFile: string;
  /** `running`, `never started`, `ended (<status>)`. */
  readonly state: string;
  readonly pid: number | null;
}

export interface LabStatus {
  readonly dir: string;
  readonly manifestDir: string;
  readonly families: IpFamilies;
  readonly nodes: readonly {
    readonly name: string;
    readonly addresses: readonly string[];
    readonly podCidrs: readonly string[];
  }[];
  readonly pods: readonly LabPodStatus[];
  readonly parts: readonly LabPartStatus[];
}

/** Starts a lab that outlives this process. @throws {LabError} `CONFLICT` when one runs there, `NOT_READY` */
export async function labUp(options: LabUpOptions): Promise<LabState> {
  const running = await findLab(options.dir);
  if (running !== null)
    throw new LabError(
      "CONFLICT",
      `A lab already runs at ${options.dir} (process ${running.sandboxPid})`,
    );
  makeStateDir(options.dir);
  const logFile = join(options.dir, "lab.log");
  const log = openSync(logFile, "w", 0o600);
  const argv = [
    join(import.meta.dirname, "main.ts"),
    `--dir=${options.dir}`,
    `--nodes=${options.nodes.join(",")}`,
    `--families=${options.families}`,
    ...(options.mesh ? ["--mesh"] : []),
  ];
  const child = spawn(process.execPath, argv, { detached: true, stdio: ["ignore", log, log] });
  closeSync(log);
  let exitCode: number | null = null;
  child.once("exit", (code) => (exitCode = code ?? 1));
  child.unref();
  const deadline = Date.now() + (options.timeoutMs ?? 60_000);
  for (;;) {
    if (/^ready$/m.test(readFileSync(logFile, "utf8"))) break;
    if (exitCode !== null || Date.now() > deadline) {
      child.kill("SIGTERM");
      throw new LabError(
        "NOT_READY",
        `The lab did not start:\n${readFileSync(logFile, "utf8").trimEnd()}`,
      );
    }
    await sleep(POLL_MS);
  }
  const state = await findLab(options.dir);
  if (state === null) throw new LabError("NOT_READY", `The lab at ${options.dir} ended at once`);
  return state;
}

/** The lab that runs there and answers; `null` when none does. */
export async function findLab(dir: string): Promise<LabState | null> {
  const state = readLabState(dir);
  if (state === null) return null;
  try {
    await labStatus(state);
    return state;
  } catch {
    return null;
  }
}

export async function labStatus(state: LabState): Promise<LabStatus> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own server's answer
  return (await labRequest(state, "GET", "/status")) as LabStatus;
}

/** Ends the lab, waits until its processes are gone, and removes its files. */
export async function labDown(state: LabState, timeoutMs = 30_000): Promise<void> {
  await labRequest(state, "POST", "/down", {});
  const deadline = Date.now() + timeoutMs;
  while (processExists(state.sandboxPid)) {
    if (Date.now() > deadline)
      throw new LabError("NOT_READY", `The lab (process ${state.sandboxPid}) does not end`);
    await sleep(POLL_MS);
  }
  clearStateDir(dirname(state.controlSocket));
}

/**
 * The command line that runs `argv` in a pod (`<namespace>/<name>`), on a node (`node/<name>`) or beside istiod
 * (`istiod`), from this process and its working directory: spawn it with inherited stdio. @throws {LabError} `NOT_FOUND`
 */
export async function labExecArgv(
  state: LabState,
  target: string,
  argv: readonly string[],
): Promise<string[]> {
  const status = await labStatus(state);
  const flags = [
    "--mount",
    "--net",
    "--pid",
    ...(state.userNamespace ? ["--user", "--preserve-credentials"] : []),
  ];
  // Entering another mount namespace leads to its root: back to where the caller is, as far as that exists there.
  const here = ["sh", "-c", 'cd -- "$0" 2>/dev/null; exec "$@"', process.cwd()];
  const enter = ["nsenter", "--target", String(state.sandboxPid), ...flags, "--", ...here];
  const [first = "", second = ""] = target.split("/");
  if (target === "istiod") return [...enter, "nsenter", "--net=/run/netns/control", "--", ...argv];
  const node = first === "node" ? state.nodes.find((n) => n.name === second) : undefined;
  if (node !== undefined) return [...enter, "nsenter", `--net=${node.netnsPath}`, "--", ...argv];
  const [namespace, name] = second === "" ? ["default", first] : [first, second];
  const pod = status.pods.find((p) => p.namespace === namespace && p.name === name);
  if (pod !== undefined) return [...enter, ...pod.enter, ...argv];
  const known = [
    ...status.pods.map((p) => `${p.namespace}/${p.name}`),
    ...state.nodes.map((n) => `node/${n.name}`),
    "istiod",
  ];
  throw new LabError("NOT_FOUND", `No ${target} in the lab; there are ${known.join(", ")}`);
}

/**
 * One request on the control socket (control.ts lists them).
 * @throws {LabError} `NOT_FOUND`, or `CONTROL` with the lab's reason
 */
export async function labRequest(
  state: Pick<LabState, "controlSocket">,
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<unknown> {
  const response = await new Promise<{ status: number; body: string }>((resolve, reject) => {
    const req = request(
      {
        socketPath: state.controlSocket,
        method,
        path,
        headers: { host: "lab" },
        ...(signal === undefined ? {} : { signal }),
      },
      (res) => {
        text(res).then((all) => resolve({ status: res.statusCode ?? 0, body: all }), reject);
      },
    );
    req.once("error", (cause) =>
      reject(
        signal?.aborted === true
          ? (signal.reason as Error)
          : new LabError("CONTROL", `The lab does not answer: ${cause.message}`, { cause }),
      ),
    );
    req.end(body === undefined ? undefined : JSON.stringify(body));
  });
  const parsed = JSON.parse(response.body) as { readonly error?: string };
  if (response.status === 200) return parsed;
  const code = response.status === 404 ? "NOT_FOUND" : "CONTROL";
  throw new LabError(code, parsed.error ?? `HTTP ${response.status}`);
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
