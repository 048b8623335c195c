// Where a test cluster with nodes lives: a sandbox as the lab's, for root alone, with a watcher outside
// that removes what no namespace takes with it, even when the test runner is killed.
import { spawn } from "node:child_process";
import type { TestOptions } from "node:test";
import { join } from "node:path";
import { LabError } from "../../lab/errors.ts";
import { enterSandbox, sandbox } from "../../lab/sandbox.ts";
import { onPath, program } from "./binaries.ts";
import { cgroupName, sweepCgroups } from "./cgroups.ts";
import { crdFiles } from "./crds.ts";
import { TempDir } from "./temp-dir.ts";

/** Options for every test that needs nodes: a skip with its reason, or none. */
export type NeedsKube = Pick<TestOptions, "skip" | "timeout">;

const TIMEOUT_MS = 180_000;
const CGROUP_VARIABLE = "AMBIT_KUBE_CGROUP";

/**
 * Call once, first thing in a test file: it then runs again inside a sandbox, or its tests are skipped with
 * the reason. AMBIT_REQUIRE_LAB=1 turns a missing privilege or program into a failure.
 */
export async function kubeSandbox(): Promise<NeedsKube> {
  const why = await enterKubeSandbox();
  if (why === null) return { timeout: TIMEOUT_MS };
  if (process.env["AMBIT_REQUIRE_LAB"] === "1") throw new LabError("NO_SANDBOX", why);
  return { skip: why };
}

/** As `enterSandbox`: returns only inside, or with the reason why there is none. */
export async function enterKubeSandbox(stateDir?: string): Promise<string | null> {
  if (sandbox() !== null) return null;
  const why = whyNoKubeSandbox();
  if (why !== null) return why;
  // inside there is no network to fetch them from
  await program("kubelet");
  await crdFiles("gateway-api");
  sweepCgroups();
  const dir = stateDir ?? TempDir.create("ambit-kube").path;
  const cgroup = cgroupName();
  process.env[CGROUP_VARIABLE] = cgroup;
  watchOver(cgroup, dir);
  const status = await enterSandbox({ stateDir: dir });
  return status.kind === "inside" ? null : status.why;
}

/** Inside a sandbox: the cgroup that its clusters' containers are below. @throws {LabError} `NO_SANDBOX` */
export function sandboxCgroup(): string {
  const name = process.env[CGROUP_VARIABLE];
  if (sandbox() !== null && name !== undefined) return name;
  throw new LabError("NO_SANDBOX", "A cluster with nodes needs `await kubeSandbox()` first");
}

/** What this user or machine lacks; `null` when nothing. */
export function whyNoKubeSandbox(): string | null {
  if (process.getuid?.() !== 0) return "Kubelets and containerd need root";
  try {
    for (const name of ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "etcd", "busybox"])
      onPath(name, "make kube-deps");
  } catch (error) {
    return (error as Error).message;
  }
  return null;
}

/** A process that waits for our end, which closes its input, and then tidies up. */
function watchOver(cgroup: string, dir: string): void {
  const argv = [join(import.meta.dirname, "kube-sweep-main.ts"), cgroup, dir];
  const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...env } = process.env;
  const watcher = spawn(process.execPath, argv, {
    env,
    detached: true,
    stdio: ["pipe", "ignore", "inherit"],
  });
  watcher.unref();
  // the sandbox must not inherit our end: Node opens it close-on-exec
  (watcher.stdin as { unref?: () => void }).unref?.();
}
