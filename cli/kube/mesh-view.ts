// The objects that decide what the mesh does, read once for commands that look at several of them together.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import {
  RESOURCES,
  type AuthorizationPolicy,
  type Gateway,
  type GatewayClass,
  type Namespace,
  type PeerAuthentication,
} from "#lib/kube/objects.ts";
import { classOf } from "./waypoints.ts";

export const DEFAULT_TRUST_DOMAIN = "cluster.local";

export interface MeshView {
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly policies: readonly AuthorizationPolicy[];
  readonly peerAuthentications: readonly PeerAuthentication[];
  readonly gateways: readonly Gateway[];
  readonly classes: readonly GatewayClass[];
  readonly trustDomain: string;
  /** Where policies hold for the whole mesh. */
  readonly rootNamespace: string;
}

export async function readMeshView(cluster: Cluster, meshNamespace: string): Promise<MeshView> {
  const [namespaces, policies, peerAuthentications, gateways, classes, config] = await Promise.all([
    cluster.list(RESOURCES.namespaces),
    listServed(cluster, RESOURCES.authorizationPolicies),
    listServed(cluster, RESOURCES.peerAuthentications),
    listServed(cluster, RESOURCES.gateways),
    listServed(cluster, RESOURCES.gatewayClasses),
    meshConfig(cluster, meshNamespace),
  ]);
  return {
    namespaces: new Map(namespaces.map((n) => [n.metadata.name, n])),
    policies,
    peerAuthentications,
    gateways,
    classes,
    trustDomain: config.trustDomain ?? DEFAULT_TRUST_DOMAIN,
    rootNamespace: config.rootNamespace ?? meshNamespace,
  };
}

/** A kind that is not served has no objects. */
export async function listServed<T extends KubeObject>(
  cluster: Cluster,
  resource: Resource<T>,
  namespace?: string,
): Promise<readonly T[]> {
  try {
    return await cluster.list(resource, namespace === undefined ? {} : { namespace });
  } catch (error) {
    if (error instanceof KubeError && error.code === "NOT_SERVED") return [];
    throw error;
  }
}

export function findGateway(
  { gateways }: Pick<MeshView, "gateways">,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Gateway | null {
  return (
    gateways.find((g) => g.metadata.namespace === namespace && g.metadata.name === name) ?? null
  );
}

export function gatewayClassOf(
  view: Pick<MeshView, "classes">,
  gateway: Gateway,
): GatewayClass | null {
  return classOf(gateway, view.classes);
}

interface MeshConfig {
  readonly trustDomain?: string | undefined;
  readonly rootNamespace?: string | undefined;
}

/** Of the ConfigMap `istio`; what cannot be read has its default. */
async function meshConfig(cluster: Cluster, namespace: string): Promise<MeshConfig> {
  const text = await cluster
    .get(RESOURCES.configMaps, namespace, "istio")
    .then((map) => map?.data?.["mesh"])
    .catch(() => undefined);
  if (text === undefined) return {};
  const { parse } = await import("yaml");
  const value: unknown = parse(text);
  if (typeof value !== "object" || value === null) return {};
  const { trustDomain, rootNamespace } = value as Record<string, unknown>;
  const word = (v: unknown): string | undefined => (typeof v === "string" ? v : undefined);
  return { trustDomain: word(trustDomain), rootNamespace: word(rootNamespace) };
}
