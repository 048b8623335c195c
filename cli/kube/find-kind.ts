// The kind a user's word means: one the mesh knows, else whatever the cluster's API server serves.
import type { Resource } from "#lib/kube/cluster.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { choosePlace, type PlaceFlags } from "../place.ts";
import { didYouMean } from "../suggest.ts";
import type { OpenCluster } from "./open-cluster.ts";
import { findResource, splitGroup, type Target, targetWords } from "./resource-names.ts";

/** kubectl's short names of kinds the mesh does not know. */
const SHORT: Readonly<Record<string, string>> = {
  crd: "customresourcedefinitions",
  ep: "endpoints",
  hpa: "horizontalpodautoscalers",
  ing: "ingresses",
  netpol: "networkpolicies",
  pdb: "poddisruptionbudgets",
  pv: "persistentvolumes",
  pvc: "persistentvolumeclaims",
  quota: "resourcequotas",
  rs: "replicasets",
};

/** @throws {CliError} USAGE for a word that is no kind here; {KubeError} when the server cannot be asked */
export async function findKind(mesh: Pick<OpenCluster, "kube">, word: string): Promise<Resource> {
  const [name, group] = splitGroup(word.toLowerCase());
  const full = SHORT[name] ?? name;
  const known = knownKind(group === undefined ? full : `${full}.${group}`);
  // Of a definition the mesh reads the metadata only; who asks for it wants to see it.
  if (!(known instanceof CliError)) return { ...known, metadataOnly: false };
  if (mesh.kube === null) throw known;
  const { listResources } = await import("#lib/kube/api-server/discovery.ts");
  const served = await listResources(mesh.kube.server);
  const named = served.filter((r) => r.plural === full || r.kind.toLowerCase() === full);
  const found = named.find((r) => group === undefined || isGroup(r, group));
  if (found !== undefined) return found;
  throw new CliError("USAGE", `${mesh.kube.name} serves no kind ${JSON.stringify(word)}`, [
    ...named.map((r) => `there is ${r.plural}.${r.group}`),
    ...didYouMean(
      full,
      served.flatMap((r) => [r.plural, r.kind.toLowerCase()]),
    ),
    "kubectl api-resources lists them; the mesh's own come with: ambit install",
  ]);
}

/** Before a cluster is opened: with a lab, an unknown kind is a mistake whether or not the lab runs. @throws {CliError} USAGE */
export function refuseUnknown(flags: PlaceFlags, env: Io["env"], kinds: readonly string[]): void {
  if (labIs(flags, env)) for (const kind of kinds) findResource(kind);
}

function labIs(flags: PlaceFlags, env: Io["env"]): boolean {
  try {
    return choosePlace(flags, env).kind === "lab";
  } catch (error) {
    if (error instanceof CliError) return true; // there is nothing: what is written is looked at first
    throw error;
  }
}

/** `kind/name…` or `kind name…`. @throws {CliError} USAGE */
export async function findTargets(
  mesh: Pick<OpenCluster, "kube">,
  words: readonly string[],
): Promise<readonly Target[]> {
  const targets: Target[] = [];
  for (const { kind, name } of targetWords(words))
    targets.push({ resource: await findKind(mesh, kind), name });
  return targets;
}

/** `apps`, or with the version before it: `v1.apps`. */
function isGroup({ group, version }: Resource, text: string): boolean {
  return text === group || text === `${version}.${group}`;
}

function knownKind(word: string): Resource | CliError {
  try {
    return findResource(word);
  } catch (error) {
    if (error instanceof CliError) return error;
    throw error;
  }
}
