// How the parts of the mesh stand: what the cluster says of their pods, and what they say of themselves.
import type { Resource } from "#lib/kube/cluster.ts";
import { RESOURCES, type Pod, type PodController } from "#lib/kube/objects.ts";
import { selects } from "#lib/kube/labels.ts";
import { CliError } from "../errors.ts";
import { readinessOf } from "../install/rollout.ts";
import type { Kube } from "../kube/connect.ts";
import { noMesh } from "../kube/mesh-presence.ts";
import { isReady, podProblem } from "../kube/pod-state.ts";
import type { Unanswered } from "../render/output.ts";
import { parseConfigDump, type ConfigDump } from "../source/config-dump.ts";
import { KubeSource } from "../source/kube-source.ts";
import { gather } from "../source/mesh-source.ts";
import { imageTag, istiodVersions, ProgramVersions } from "../source/program-versions.ts";
import { syncStatus, type SyncedProxy } from "../source/sync-status.ts";

export interface ComponentStatus {
  readonly component: string;
  readonly desired: number;
  readonly ready: number;
  readonly isReady: boolean;
  /** Of the program where it is known, else the image's tag; several with commas. */
  readonly version: string;
  /** `2/2` of its proxies have all; empty where it means nothing or nobody answers. */
  readonly xds: string;
  /** `12/12` certificates are valid. */
  readonly certs: string;
  readonly message: string;
  /** Of a DaemonSet. */
  readonly nodes: readonly NodeStatus[];
}

export interface NodeStatus {
  readonly node: string;
  readonly pod: string;
  readonly isReady: boolean;
  readonly version: string;
  readonly xds: string;
  readonly message: string;
}

export interface MeshStatus {
  readonly components: readonly ComponentStatus[];
  readonly partial: readonly Unanswered[];
}

const PARTS: readonly {
  readonly component: string;
  readonly name: string;
  readonly resource: Resource<PodController>;
}[] = [
  { component: "istiod", name: "istiod", resource: RESOURCES.deployments },
  { component: "cni", name: "istio-cni-node", resource: RESOURCES.daemonSets },
  { component: "ztunnel", name: "ztunnel", resource: RESOURCES.daemonSets },
];

/** @throws {CliError} NOT_FOUND when no part of the mesh is there */
export async function readMeshStatus(
  kube: Kube,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<MeshStatus> {
  const { cluster, meshNamespace: namespace } = kube;
  const [pods, ...parts] = await Promise.all([
    cluster.list(RESOURCES.pods, { namespace }),
    ...PARTS.map((p) => cluster.get(p.resource, namespace, p.name)),
  ]);
  if (parts.every((p) => p === null)) throw noMesh(kube);
  const anyRuns = pods.some(isReady);
  const said = anyRuns ? await ask(kube, pods, options) : NOTHING_SAID;
  const components = PARTS.map((p, i) =>
    componentStatus(p.component, parts[i] ?? null, pods, said),
  );
  return { components, partial: said.partial };
}

interface Said {
  readonly dumps: ReadonlyMap<string, ConfigDump>;
  readonly synced: readonly SyncedProxy[] | null;
  readonly versions: ProgramVersions;
  readonly partial: readonly Unanswered[];
}

const NOTHING_SAID: Said = {
  dumps: new Map(),
  synced: null,
  versions: new ProgramVersions(),
  partial: [],
};

async function ask(
  kube: Kube,
  pods: readonly Pod[],
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<Said> {
  const source = new KubeSource(kube);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const [gathered, synced, versions] = await Promise.all([
    gather(source, "/config_dump", parseConfigDump, { timeoutMs, signal }).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        if (error instanceof CliError) return null;
        throw error;
      },
    ),
    syncStatus(source, limit),
    istiodVersions(source, limit),
  ]);
  const dumps = new Map(gathered?.answers.map((a) => [a.node, a.value]));
  for (const [node, { version }] of dumps) {
    const here = pods.filter(
      ({ metadata, spec }) => metadata.labels?.["app"] === "ztunnel" && spec?.nodeName === node,
    );
    const asked = here.find(isReady) ?? here[0];
    if (asked !== undefined) versions.learn(asked, version);
  }
  return {
    dumps,
    synced,
    versions,
    partial: gathered?.partial ?? [],
  };
}

function componentStatus(
  component: string,
  part: PodController | null,
  pods: readonly Pod[],
  said: Said,
): ComponentStatus {
  const own = part === null ? [] : podsOf(part, pods);
  const { ready, desired, isDone } = readinessOf(part);
  const isOff = part?.kind === "Deployment" && desired === 0;
  const image = part?.spec?.template?.spec?.containers?.[0]?.image ?? "";
  const nodes = part?.kind === "DaemonSet" ? own.map((p) => nodeStatus(component, p, said)) : [];
  const versions = new Set(own.map((p) => said.versions.of(p)).toSorted());
  versions.delete("");
  const isZtunnel = component === "ztunnel";
  return {
    component,
    desired: part === null ? 0 : desired,
    ready,
    isReady: part !== null && isDone && !isOff,
    version: versions.size === 0 ? imageTag(image) : [...versions].join(","),
    xds: isZtunnel
      ? share(
          nodes.filter((n) => n.xds !== ""),
          (n) => n.xds === "SYNCED",
        )
      : "",
    certs: isZtunnel ? certificates([...said.dumps.values()]) : "",
    message: whatIsWrong(part, own, isOff),
    nodes: nodes.toSorted((a, b) => a.node.localeCompare(b.node)),
  };
}

function whatIsWrong(part: PodController | null, pods: readonly Pod[], isOff: boolean): string {
  if (part === null) return "not installed";
  if (isOff) return "scaled to 0 replicas";
  return pods.map(problemText).find((t) => t !== "") ?? "";
}

function nodeStatus(component: string, pod: Pod, said: Said): NodeStatus {
  const { name, namespace } = pod.metadata;
  const node = pod.spec?.nodeName ?? "";
  const isZtunnel = component === "ztunnel";
  const client = said.synced?.find((c) => c.name === name && c.namespace === namespace);
  return {
    node,
    pod: name,
    isReady: isReady(pod),
    version: said.versions.of(pod),
    xds: !isZtunnel || said.synced === null ? "" : syncText(client),
    message: problemText(pod),
  };
}

/** The worst of its types; a proxy istiod does not know is not connected. */
export function syncText(client: SyncedProxy | undefined): string {
  if (client === undefined) return "NOT CONNECTED";
  const states = client.types.map((t) => t.status);
  return ["STALE", "NOT_SENT"].find((s) => states.includes(s as never)) ?? "SYNCED";
}

function podsOf(part: PodController, pods: readonly Pod[]): readonly Pod[] {
  const labels = part.spec?.selector?.matchLabels ?? {};
  return pods.filter((p) => selects(labels, p.metadata.labels));
}

function problemText(pod: Pod): string {
  const problem = podProblem(pod);
  if (problem === null) return "";
  const detail = problem.message === "" ? "" : `: ${problem.message}`;
  return `${pod.metadata.name}: ${problem.reason}${detail}`;
}

function certificates(dumps: readonly ConfigDump[]): string {
  return share(
    dumps.flatMap((d) => d.identities),
    (i) => i.state === "Available",
  );
}

function share<T>(all: readonly T[], good: (one: T) => boolean): string {
  return all.length === 0 ? "" : `${all.filter(good).length}/${all.length}`;
}
