// Where the cluster of `make kube-up` lives, and how others find and end it.
import { readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "../../lab/errors.ts";
import { isAlive } from "./temp-dir.ts";

export interface StandingCluster {
  /** The process outside the sandbox: SIGTERM ends the cluster. */
  readonly owner: string;
  readonly kubeconfig: string;
  readonly nodes: readonly string[];
  readonly logs: string;
}

/** One per machine. */
export const standingDir = (): string => join(tmpdir(), "ambit-kube-up");
export const standingFile = (dir: string): string => join(dir, "kube.json");
/** Of the process that owns the cluster; its output is in `kube.log`. */
export const ownerFile = (dir: string): string => join(dir, "owner");
export const logFile = (dir: string): string => join(dir, "kube.log");

/** `null` when there is none, or it is not ready yet. */
export function findStanding(dir: string): StandingCluster | null {
  try {
    const found = JSON.parse(readFileSync(standingFile(dir), "utf8")) as StandingCluster;
    return isAlive(found.owner) ? found : null;
  } catch {
    return null;
  }
}

/** When it was ready. */
export function standsSince(dir: string): Date {
  return statSync(standingFile(dir)).mtime;
}

/** What `make kube-up` prints. @param since  `null` for a cluster that was started just now */
export function howToUse(
  { nodes, kubeconfig, logs }: StandingCluster,
  kubectl: string,
  since: Date | null,
): string {
  const names = nodes.join(", ");
  return [
    since === null
      ? `Nodes ${names} are ready. Image ambit:dev is on each.`
      : `A cluster stands here already, since ${since.toISOString()}: nodes ${names}. Nothing was started or changed;\nits image ambit:dev is of that time. A new one: make kube-down, then make kube-up.`,
    "",
    `  export KUBECONFIG=${kubeconfig}`,
    `  ${kubectl} get nodes`,
    "",
    `Logs: ${logs}. To end it: make kube-down`,
    "",
  ].join("\n");
}

/** `null` when nobody owns the directory any more. */
export function findOwner(dir: string): string | null {
  try {
    const owner = readFileSync(ownerFile(dir), "utf8");
    return isAlive(owner) ? owner : null;
  } catch {
    return null;
  }
}

/** Ends the owner, and with it the cluster. Nothing happens if there is none. @throws {LabError} `NOT_READY` */
export async function endStanding(dir: string): Promise<boolean> {
  const owner = findOwner(dir);
  if (owner === null) return false;
  const pid = Number(owner.split(" ")[0]);
  process.kill(pid, "SIGTERM");
  for (const [signal, waitMs] of [
    ["SIGKILL", 20_000],
    ["SIGKILL", 5_000],
  ] as const) {
    const deadline = Date.now() + waitMs;
    while (isAlive(owner) && Date.now() < deadline) await sleep(50);
    if (!isAlive(owner)) return true;
    process.kill(pid, signal);
  }
  throw new LabError("NOT_READY", `Process ${pid}, which owns the cluster, does not end`);
}
