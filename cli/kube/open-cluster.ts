// The objects of the mesh a command changes: the manifest directory of the running lab.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { Globals } from "../command.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { readLabState } from "../source/lab-state.ts";
import { didYouMean } from "../suggest.ts";
import { displayName } from "./resource-names.ts";

/** Recorded as the owner of the fields a command sets. */
export const FIELD_MANAGER = "ambit";

/** @throws {CliError} UNREACHABLE when no lab runs */
export async function openCluster(flags: Globals, io: Io): Promise<Cluster> {
  const state = await readLabState(flags.lab, io);
  const { DirectoryCluster } = await import("#lib/kube/directory-cluster.ts");
  return new DirectoryCluster(state.manifestDir);
}

/** The namespace for `resource`: null for cluster-scoped kinds, `default` unless asked. */
export function namespaceFor(resource: Resource, flags: Globals): string | null {
  return resource.namespaced ? (flags.namespace ?? "default") : null;
}

/** @throws {CliError} NOT_FOUND, with names that come near */
export async function requireObject<T extends KubeObject>(
  cluster: Cluster,
  resource: Resource<T>,
  namespace: string | null,
  name: string,
): Promise<T> {
  const object = await cluster.get(resource, namespace, name);
  if (object !== null) return object;
  const others = await cluster.list(resource);
  const sameName = others.find((o) => o.metadata.name === name);
  const names = others
    .filter((o) => namespace === null || o.metadata.namespace === namespace)
    .map((o) => o.metadata.name);
  const where = namespace === null ? "" : ` in namespace ${namespace}`;
  throw new CliError("NOT_FOUND", `No ${displayName(resource, name)}${where}`, [
    ...(sameName?.metadata.namespace === undefined
      ? []
      : [
          `there is one in namespace ${sameName.metadata.namespace}: add -n ${sameName.metadata.namespace}`,
        ]),
    ...didYouMean(name, names),
    `ambit get ${resource.plural}${resource.namespaced ? " -A" : ""} lists them`,
  ]);
}
