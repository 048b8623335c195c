// Whether there is a mesh in a cluster at all: the first thing to know when nothing answers.
import { RESOURCES } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import type { Kube } from "./connect.ts";
import type { OpenCluster } from "./open-cluster.ts";

type Where = Pick<Kube, "cluster" | "meshNamespace" | "name">;

export function noMesh({ meshNamespace, name }: Omit<Where, "cluster">): CliError {
  return new CliError("NOT_FOUND", `No mesh in namespace ${meshNamespace} of ${name}`, [
    "install it with: ambit install",
    "look elsewhere with: --istio-namespace",
  ]);
}

/** One of its three parts is there, whether it runs or not. @throws {KubeError} */
export async function isInstalled({ cluster, meshNamespace }: Where): Promise<boolean> {
  const parts = await Promise.all([
    cluster.get(RESOURCES.deployments, meshNamespace, "istiod"),
    cluster.get(RESOURCES.daemonSets, meshNamespace, "ztunnel"),
    cluster.get(RESOURCES.daemonSets, meshNamespace, "istio-cni-node"),
  ]);
  return parts.some((p) => p !== null);
}

/** Why nobody answers: there is no mesh, or `broken`. What may not be read counts as installed. */
export async function whySilent(kube: Where, broken: CliError): Promise<CliError> {
  return (await isInstalled(kube).catch(() => true)) ? broken : noMesh(kube);
}

/** A warning for commands that change labels and objects, which work without a mesh and then do nothing. */
export async function warnWithoutMesh(
  { kube }: Pick<OpenCluster, "kube">,
  io: Pick<Io, "err">,
): Promise<void> {
  if (kube === null || (await isInstalled(kube).catch(() => true))) return;
  io.err(`warning: ${noMesh(kube).message}; install it with: ambit install`);
}
