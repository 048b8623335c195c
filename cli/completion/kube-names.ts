// Names for the completion scripts out of a cluster: one request, one second at most, silence when anything fails.
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Resource } from "#lib/kube/cluster.ts";
import type { NameKind } from "./names.ts";

/** A press of Tab waits no longer. */
const DEADLINE_MS = 1_000;
const MAX_NAMES = 500;

export async function kubeNames(
  of: NameKind,
  namespace: string,
  kind: string,
): Promise<readonly string[]> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  try {
    const { openApiServer } = await import("#lib/kube/api-server/open-api-server.ts");
    using server = await openApiServer({ userAgent: "ambit" });
    return (await namesOf(server, of, namespace, kind, signal)).slice(0, MAX_NAMES);
  } catch {
    return [];
  }
}

async function namesOf(
  server: ApiServer,
  of: NameKind,
  namespace: string,
  kind: string,
  signal: AbortSignal,
): Promise<string[]> {
  const home = namespace || server.namespace;
  const list = (resource: Resource, within: string | null): Promise<string[]> =>
    listNames(server, resource, within, signal);
  const prefixed = async (prefix: string, resource: Resource, within: string | null) =>
    (await list(resource, within)).map((n) => `${prefix}/${n}`);
  switch (of) {
    case "namespaces":
      return await list(RESOURCES.namespaces, null);
    case "nodes":
      return await list(RESOURCES.nodes, null);
    case "pods":
      return await list(RESOURCES.pods, home);
    case "services":
      return await list(RESOURCES.services, home);
    case "waypoints":
      return await list(RESOURCES.gateways, home);
    case "accounts":
      return await list(RESOURCES.serviceAccounts, home);
    case "objects": {
      const resource = Object.values<Resource>(RESOURCES).find((r) => r.plural === kind);
      return resource === undefined ? [] : await list(resource, resource.namespaced ? home : null);
    }
    case "destinations":
      return (
        await Promise.all([
          prefixed("svc", RESOURCES.services, home),
          prefixed("pod", RESOURCES.pods, home),
        ])
      ).flat();
    case "peers":
      return (
        await Promise.all([
          prefixed("ns", RESOURCES.namespaces, null),
          prefixed("pod", RESOURCES.pods, home),
          prefixed("svc", RESOURCES.services, home),
        ])
      ).flat();
    case "enrollable":
      return (
        await Promise.all([
          prefixed("ns", RESOURCES.namespaces, null),
          prefixed("pod", RESOURCES.pods, home),
        ])
      ).flat();
    case "contexts":
    case "places":
      return [];
    default:
      return of satisfies never;
  }
}

/** As metadata alone: a thousand names are small then. */
async function listNames(
  server: ApiServer,
  { group, version, plural, kind }: Resource,
  namespace: string | null,
  signal: AbortSignal,
): Promise<string[]> {
  const root = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const within = namespace === null ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  const answer = (await server.request({
    method: "GET",
    path: `${root}${within}/${plural}`,
    query: { limit: String(MAX_NAMES), resourceVersion: "0" },
    accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
    subject: { verb: "list", kind, group, resource: plural, namespace, name: null },
    deadlineMs: DEADLINE_MS,
    signal,
  })) as { readonly items?: readonly { readonly metadata?: { readonly name?: string } }[] };
  return (answer.items ?? []).flatMap((o) => o.metadata?.name ?? []);
}

/** Of the kubeconfigs `KUBECONFIG` names, or `~/.kube/config`. */
export async function contextNames(env: NodeJS.ProcessEnv): Promise<readonly string[]> {
  const [{ readFile }, { parse }, { delimiter, join }] = await Promise.all([
    import("node:fs/promises"),
    import("yaml"),
    import("node:path"),
  ]);
  const files = env["KUBECONFIG"]
    ? env["KUBECONFIG"].split(delimiter)
    : [join(env["HOME"] ?? "/", ".kube", "config")];
  const names = new Set<string>();
  for (const file of files)
    try {
      const config = parse(await readFile(file, "utf8")) as {
        readonly contexts?: readonly { readonly name?: unknown }[];
      } | null;
      for (const { name } of config?.contexts ?? []) if (typeof name === "string") names.add(name);
    } catch {
      // no file, or none that can be read: nothing to offer from it
    }
  return [...names];
}
