// A cluster without an API server, for tests: the objects given, read and never changed.
import type { KubeObject, ListOptions, Resource } from "#lib/kube/cluster.ts";
import type { Kube } from "../kube/connect.ts";

export function testKube(objects: readonly KubeObject[]): Kube {
  const of = ({ kind }: Resource): KubeObject[] => objects.filter((o) => o.kind === kind);
  const cluster = {
    get: async (resource: Resource, namespace: string | null, name: string) =>
      of(resource).find(
        ({ metadata: m }) => m.name === name && (m.namespace ?? null) === namespace,
      ) ?? null,
    list: async (resource: Resource, { namespace }: ListOptions = {}) =>
      of(resource).filter((o) => namespace === undefined || o.metadata.namespace === namespace),
  };
  const rest = { name: "the test", namespace: "default", meshNamespace: "istio-system" };
  return { cluster, ...rest } as unknown as Kube; // the rest of it nobody asks for here
}
