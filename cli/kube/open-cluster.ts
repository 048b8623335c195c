// The objects of the mesh a command reads and changes: a lab's manifest directory, or an API server.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { Globals } from "../command.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { choosePlace } from "../place.ts";
import { readLabState } from "../source/lab-state.ts";
import { didYouMean } from "../suggest.ts";
import { MESH_NAMESPACE, type Kube } from "./connect.ts";
import { displayName } from "./resource-names.ts";

/** Recorded as the owner of the fields a command sets. */
export const FIELD_MANAGER = "ambit";

export interface OpenCluster {
  readonly cluster: Cluster;
  /** For sentences. */
  readonly name: string;
  /** Where namespaced objects are without `-n`. */
  readonly namespace: string;
  readonly meshNamespace: string;
  /** `null` for a lab. */
  readonly kube: Kube | null;
}

/** @throws {CliError} UNREACHABLE when no lab runs and no cluster is configured */
export async function openCluster(flags: Globals, io: Io): Promise<OpenCluster> {
  const place = choosePlace(flags, io.env);
  if (place.kind === "kubernetes") {
    const { connect } = await import("./connect.ts");
    const kube = await connect(flags, io);
    const { cluster, name, namespace, meshNamespace } = kube;
    return { cluster, name, namespace, meshNamespace, kube };
  }
  const state = await readLabState(place.dir, io);
  if (flags.verbose) io.err(`using the lab at ${state.dir} (${place.why})`);
  const { DirectoryCluster } = await import("#lib/kube/directory-cluster.ts");
  return {
    cluster: new DirectoryCluster(state.manifestDir),
    name: `the lab at ${state.dir}`,
    namespace: "default",
    meshNamespace: flags["istio-namespace"] ?? MESH_NAMESPACE,
    kube: null,
  };
}

/** The namespace for `resource`: null for cluster-scoped kinds, the context's unless asked. */
export function namespaceFor(
  resource: Resource,
  flags: Globals,
  { namespace }: Pick<OpenCluster, "namespace">,
): string | null {
  return resource.namespaced ? (flags.namespace ?? namespace) : null;
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
  const others = await cluster.list(resource).catch(() => []); // hints only: perhaps we may not list
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
