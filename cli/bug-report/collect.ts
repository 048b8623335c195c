// What a report holds: objects, logs, and what each part says of itself. What cannot be had is named instead.
import type { Resource } from "#lib/kube/cluster.ts";
import type { Json, JsonObject } from "#lib/kube/json.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { clientVersion } from "../client-version.ts";
import type { Io } from "../io.ts";
import type { Kube } from "../kube/connect.ts";
import { MODE_LABEL } from "../kube/enrollment.ts";
import { KubeSource } from "../source/kube-source.ts";
import { redactObject, redactText, withoutEnvironment } from "./redact.ts";
import type { ArchiveFile } from "./tar.ts";

const PARALLEL = 8;
/** Of one log. */
const MAX_LOG_BYTES = 5 * 1024 * 1024;
const LOG_LINES = 20_000;
const PARTS = ["istiod", "ztunnel", "istio-cni-node"];

export interface CollectOptions {
  readonly sinceMs: number;
  readonly timeoutMs: number;
  /** Namespaces of users, besides the mesh's; `null`: those enrolled. */
  readonly include: readonly string[] | null;
  readonly exclude: readonly string[];
}

export interface Collected {
  readonly files: readonly ArchiveFile[];
  readonly missing: readonly { readonly path: string; readonly error: string }[];
}

type Task = { readonly path: string; readonly get: (signal: AbortSignal) => Promise<string> };

export async function collect(kube: Kube, io: Io, options: CollectOptions): Promise<Collected> {
  const { cluster, meshNamespace } = kube;
  const pods = await cluster.list(RESOURCES.pods, { namespace: meshNamespace });
  const namespaces = await chosenNamespaces(kube, options);
  const tasks = [
    ...objectTasks(kube, namespaces),
    ...pods.flatMap((p) => partTasks(kube, p, options)),
    ...pageTasks(kube, pods),
    { path: "check.json", get: () => checks(kube, io, options.timeoutMs) },
    { path: "versions.json", get: (signal: AbortSignal) => versions(kube, signal) },
  ];
  const files: ArchiveFile[] = [];
  const missing: { path: string; error: string }[] = [];
  const queue = tasks.values();
  const worker = async (): Promise<void> => {
    for (const { path, get } of queue) {
      const signal = AbortSignal.any([io.signal, AbortSignal.timeout(options.timeoutMs)]);
      try {
        files.push({ path, content: await get(signal) });
      } catch (error) {
        io.signal.throwIfAborted();
        missing.push({ path, error: error instanceof Error ? error.message : String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  const byPath = (a: { path: string }, b: { path: string }): number => a.path.localeCompare(b.path);
  return { files: files.sort(byPath), missing: missing.sort(byPath) };
}

async function chosenNamespaces(
  kube: Kube,
  { include, exclude }: CollectOptions,
): Promise<string[]> {
  const all = await kube.cluster.list(RESOURCES.namespaces);
  const enrolled = all
    .filter((n) => n.metadata.labels?.[MODE_LABEL] === "ambient")
    .map((n) => n.metadata.name);
  return (include ?? enrolled).filter((n) => !exclude.includes(n) && n !== kube.meshNamespace);
}

/** Of the whole cluster. Secrets are not among them, and never will be. */
const CLUSTER_KINDS: readonly Resource[] = [
  RESOURCES.nodes,
  RESOURCES.namespaces,
  RESOURCES.gateways,
  RESOURCES.gatewayClasses,
  RESOURCES.httpRoutes,
  RESOURCES.authorizationPolicies,
  RESOURCES.peerAuthentications,
  RESOURCES.serviceEntries,
  RESOURCES.workloadEntries,
  RESOURCES.networkPolicies,
];
const NAMESPACE_KINDS: readonly Resource[] = [
  RESOURCES.pods,
  RESOURCES.services,
  RESOURCES.endpointSlices,
  RESOURCES.deployments,
  RESOURCES.daemonSets,
  RESOURCES.statefulSets,
  RESOURCES.events,
];

function objectTasks(kube: Kube, namespaces: readonly string[]): Task[] {
  const { cluster, meshNamespace } = kube;
  const dump = (items: readonly unknown[], foreign: boolean): string => {
    const plain = JSON.parse(JSON.stringify(items)) as Json[];
    const clean = plain.map((o) =>
      redactObject((foreign ? withoutEnvironment(o) : o) as JsonObject),
    );
    return `${JSON.stringify({ apiVersion: "v1", kind: "List", items: clean }, null, 2)}\n`;
  };
  return [
    ...CLUSTER_KINDS.map((r) => ({
      path: `cluster/${r.plural}.json`,
      get: async () => dump(await cluster.list(r), false),
    })),
    ...[meshNamespace, ...namespaces].flatMap((namespace) =>
      NAMESPACE_KINDS.map((r) => ({
        path: `namespaces/${namespace}/${r.plural}.json`,
        get: async () => dump(await cluster.list(r, { namespace }), namespace !== meshNamespace),
      })),
    ),
    {
      path: `namespaces/${meshNamespace}/configmap-istio.json`,
      get: async () => {
        const map = await cluster.get(RESOURCES.configMaps, meshNamespace, "istio");
        return dump(map === null ? [] : [map], false);
      },
    },
  ];
}

function partTasks(kube: Kube, pod: Pod, { sinceMs }: CollectOptions): Task[] {
  const app = pod.metadata.labels?.["app"] ?? "";
  if (!PARTS.includes(app)) return [];
  const { name, namespace = "" } = pod.metadata;
  const place = `${app}/${pod.spec?.nodeName ?? "no-node"}/${name}`;
  const log = async (previous: boolean, signal: AbortSignal): Promise<string> => {
    const { podLogs } = await import("#lib/kube/api-server/pod-logs.ts");
    const lines: string[] = [];
    for await (const line of podLogs(kube.server, {
      namespace,
      pod: name,
      previous,
      timestamps: true,
      tailLines: LOG_LINES,
      limitBytes: MAX_LOG_BYTES,
      ...(previous ? {} : { sinceSeconds: Math.ceil(sinceMs / 1000) }),
      signal,
    }))
      lines.push(line);
    return redactText(`${lines.join("\n")}\n`);
  };
  const restarts = (pod.status as { containerStatuses?: { restartCount?: number }[] } | undefined)
    ?.containerStatuses?.[0]?.restartCount;
  return [
    { path: `${place}.log`, get: (signal) => log(false, signal) },
    ...((restarts ?? 0) > 0
      ? [{ path: `${place}.previous.log`, get: (signal: AbortSignal) => log(true, signal) }]
      : []),
  ];
}

function pageTasks(kube: Kube, pods: readonly Pod[]): Task[] {
  const source = new KubeSource(kube);
  const json = (value: unknown): string => redactText(`${JSON.stringify(value, null, 2)}\n`);
  const app = (name: string): readonly Pod[] =>
    pods.filter((p) => p.metadata.labels?.["app"] === name);
  return [
    ...app("ztunnel").flatMap(({ spec }) =>
      (["/config_dump", "/ambit/tunnels"] as const).map((page) => ({
        path: `ztunnel/${spec?.nodeName ?? "no-node"}${page.replace("/ambit", "")}.json`,
        get: async (signal: AbortSignal) =>
          json((await source.fetch(spec?.nodeName ?? "", page, signal)).value),
      })),
    ),
    ...app("istiod").flatMap((pod) =>
      ["syncz", "adsz", "configz", "ambientz"].map((page) => ({
        path: `istiod/${pod.metadata.name}/${page}.json`,
        get: async (signal: AbortSignal) =>
          redactText(await source.istiod(`/debug/${page}`, signal, pod)),
      })),
    ),
  ];
}

async function checks(kube: Kube, io: Io, timeoutMs: number): Promise<string> {
  const { runChecks } = await import("../check/run.ts");
  const results = await runChecks(kube, ["pre", "post", "namespace"], { io, timeoutMs });
  return `${JSON.stringify(results, null, 2)}\n`;
}

async function versions(kube: Kube, signal: AbortSignal): Promise<string> {
  const { gitVersion } = await kube.server.version(signal);
  const istiod = await new KubeSource(kube).istiodVersion(signal).catch(() => null);
  return `${JSON.stringify({ client: clientVersion(), kubernetes: gitVersion, istiod }, null, 2)}\n`;
}
