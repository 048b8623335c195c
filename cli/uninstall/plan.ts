// What is left of the mesh in a cluster, in the order it has to go: what others depend on goes last.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { JsonObject } from "#lib/kube/json.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Kube } from "../kube/connect.ts";
import { displayName } from "../kube/resource-names.ts";
import { isOurs } from "../check/foreign-mesh.ts";
import { listServed } from "../kube/mesh-view.ts";
import { OUR_CONTROLLERS } from "../kube/waypoints.ts";
import { metadataOf, textAt } from "../manifest/object-id.ts";
import { planStages } from "../install/stages.ts";

export interface Doomed {
  readonly resource: Resource;
  readonly namespace: string | null;
  readonly name: string;
  /** Its pods must be gone before the next object goes. */
  readonly waits: boolean;
}

export interface UninstallPlan {
  /** In order. */
  readonly doomed: readonly Doomed[];
  /** Last, and only if nothing of others lives there. */
  readonly namespace: string | null;
  /** What stays, and why: sentences. */
  readonly kept: readonly string[];
}

export interface PlanOptions {
  readonly purge: boolean;
}

/** What istiod makes while it runs. */
const RUNTIME_SECRETS = ["istio-ca-secret"];
const ROOT_CERT = "istio-ca-root-cert";
/** Of ConfigMaps that say who leads; other locks are Leases. */
const LOCK = "control-plane.alpha.kubernetes.io/leader";

/** @param rendered  everything any profile would have applied */
export async function planUninstall(
  kube: Kube,
  rendered: readonly JsonObject[],
  { purge }: PlanOptions,
): Promise<UninstallPlan> {
  const { findResource } = await import("#lib/kube/api-server/discovery.ts");
  const runs: Doomed[] = [];
  const rest: Doomed[] = [];
  const crds: Doomed[] = [];
  let namespace: string | null = null;
  const kept: string[] = [];
  for (const o of planStages(rendered)
    .toReversed()
    .flatMap((p) => p.objects.toReversed())) {
    const resource = await findResource(kube.server, textAt(o, "apiVersion"), textAt(o, "kind"));
    if (resource === null) continue;
    const home = textAt(metadataOf(o), "namespace") || kube.meshNamespace;
    const doomed = {
      resource,
      namespace: resource.namespaced ? home : null,
      name: textAt(metadataOf(o), "name"),
    };
    const live = await kube.cluster.get(resource, doomed.namespace, doomed.name);
    if (live === null) continue;
    if (!isOurs(live.metadata.labels)) {
      kept.push(`${displayName(resource, doomed.name)}, which is not labelled as a part of ambit`);
      continue;
    }
    if (resource.kind === "Namespace") namespace = doomed.name;
    else if (resource.kind === "CustomResourceDefinition") crds.push({ ...doomed, waits: false });
    else if (resource.kind === "DaemonSet" || resource.kind === "Deployment")
      runs.push({ ...doomed, waits: true });
    else rest.push({ ...doomed, waits: false });
  }
  if (!purge && crds.length > 0)
    kept.push(`${crds.length} CustomResourceDefinitions and their objects: --purge deletes them`);
  const doomed = [...runs, ...(await runtimeObjects(kube)), ...rest, ...(purge ? crds : [])];
  const stranger = namespace === null ? null : await strangerIn(kube, namespace, doomed);
  if (stranger !== null) kept.push(`namespace ${namespace}: ${stranger} lives there`);
  return { doomed, namespace: stranger === null ? namespace : null, kept };
}

async function runtimeObjects(kube: Kube): Promise<Doomed[]> {
  const { cluster, meshNamespace } = kube;
  const found: Doomed[] = [];
  const add = (resource: Resource, { metadata }: KubeObject): void =>
    void found.push({
      resource,
      namespace: metadata.namespace ?? null,
      name: metadata.name,
      waits: false,
    });
  for (const map of await cluster.list(RESOURCES.configMaps, {
    labelSelector: "istio.io/config=true",
  }))
    if (map.metadata.name === ROOT_CERT) add(RESOURCES.configMaps, map);
  for (const map of await cluster.list(RESOURCES.configMaps, { namespace: meshNamespace }))
    if (map.metadata.annotations?.[LOCK] !== undefined && map.metadata.name.startsWith("istio-"))
      add(RESOURCES.configMaps, map);
  for (const lease of await cluster.list(RESOURCES.leases, { namespace: meshNamespace }))
    if (lease.metadata.name.startsWith("istio-")) add(RESOURCES.leases, lease);
  for (const name of RUNTIME_SECRETS) {
    const secret = await cluster.get(RESOURCES.secrets, meshNamespace, name);
    if (secret !== null) add(RESOURCES.secrets, secret);
  }
  for (const c of await listServed(cluster, RESOURCES.gatewayClasses))
    if (OUR_CONTROLLERS.includes(c.spec?.controllerName ?? "")) add(RESOURCES.gatewayClasses, c);
  return found;
}

/** Something in the namespace that is not about to go; `null` when there is nothing. */
async function strangerIn(
  kube: Kube,
  namespace: string,
  doomed: readonly Doomed[],
): Promise<string | null> {
  const going = new Set(doomed.map((d) => `${d.resource.kind}/${d.namespace ?? ""}/${d.name}`));
  for (const resource of [RESOURCES.deployments, RESOURCES.daemonSets, RESOURCES.statefulSets])
    for (const o of await kube.cluster.list(resource, { namespace }))
      if (!going.has(`${resource.kind}/${namespace}/${o.metadata.name}`))
        return `${resource.kind.toLowerCase()}/${o.metadata.name}`;
  if ((await kube.cluster.get(RESOURCES.secrets, namespace, "cacerts")) !== null)
    return "secret/cacerts, your certificate authority,";
  return null;
}
