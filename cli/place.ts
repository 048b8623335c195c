// Which mesh a command means: a lab on this machine or a Kubernetes cluster. One rule for all commands.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { defaultStateDir } from "../lab/state.ts";
import { CliError } from "./errors.ts";
import type { Io } from "./io.ts";

/** Of the global flags, those that say where. */
export interface PlaceFlags {
  readonly lab?: string | undefined;
  readonly context?: string | undefined;
  readonly kubeconfig?: string | undefined;
  readonly as?: string | undefined;
  readonly "as-group"?: readonly string[] | undefined;
}

export type Place =
  | { readonly kind: "lab"; readonly dir: string; readonly why: string }
  | { readonly kind: "kubernetes"; readonly why: string };

type Env = Io["env"];

/**
 * In this order: `--lab`; `--context`, `--kubeconfig` or `--as`; `AMBIT_LAB`; a lab that runs at its usual place;
 * `KUBECONFIG`, the service account of a pod, or `~/.kube/config`.
 * @throws {CliError} USAGE for flags of both, UNREACHABLE when there is neither
 */
export function choosePlace(flags: PlaceFlags, env: Env): Place {
  const given = (["context", "kubeconfig", "as"] as const).find((f) => flags[f] !== undefined);
  const lab = labFlag(flags, env);
  if (given !== undefined && lab !== undefined)
    throw new CliError("USAGE", `--lab means a lab, and --${given} a Kubernetes cluster`, [
      "leave out one of them",
    ]);
  if (lab !== undefined) return { kind: "lab", dir: lab, why: "--lab" };
  if (given !== undefined) return { kind: "kubernetes", why: `--${given}` };
  const dir = defaultStateDir(env);
  if (env["AMBIT_LAB"]) return { kind: "lab", dir, why: "AMBIT_LAB" };
  if (existsSync(join(dir, "lab.json"))) return { kind: "lab", dir, why: "it runs" };
  const why = kubeconfigOf(env);
  if (why !== null) return { kind: "kubernetes", why };
  throw new CliError("UNREACHABLE", `No mesh to ask: no lab at ${dir}, and no kubeconfig`, [
    "a mesh on this machine: ambit lab up",
    "a cluster: --kubeconfig FILE, KUBECONFIG, or ~/.kube/config",
    "a saved dump, for commands that only read: -f FILE",
  ]);
}

/** For commands that only make sense in a cluster. @throws {CliError} USAGE for `--lab` */
export function requireKubernetes(flags: PlaceFlags, env: Env, command: string): void {
  if (labFlag(flags, env) !== undefined)
    throw new CliError("USAGE", `ambit ${command} needs a Kubernetes cluster, not a lab`, [
      "leave out --lab",
      "a lab is run with ambit lab up and ambit lab down",
    ]);
}

/** `--lab` as it was written: oclif fills the flag from the environment as well. */
function labFlag(flags: PlaceFlags, env: Env): string | undefined {
  return flags.lab === env["AMBIT_LAB"] ? undefined : flags.lab;
}

function kubeconfigOf(env: Env): string | null {
  if (env["KUBECONFIG"]) return "KUBECONFIG";
  if (env["KUBERNETES_SERVICE_HOST"]) return "this pod's service account";
  const home = env["HOME"];
  if (home !== undefined && existsSync(join(home, ".kube", "config"))) return "~/.kube/config";
  return null;
}
