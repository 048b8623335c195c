// What the mesh asks of the API server, from its audit log: for each new pod, and when nothing happens at all.
import { setTimeout as sleep } from "node:timers/promises";
import type { AuditEvent } from "../../../kube/audit.ts";
import type { Progress } from "../../progress.ts";
import type { Results } from "../../results.ts";
import { NAMESPACES, PATHS, type KubeStage, type Path } from "../stage.ts";

const PODS = 10;
/** What a new pod causes is over after this. */
const SETTLE_MS = 5_000;
const REST_MS = 20_000;
const OURS = /^system:serviceaccount:istio-system:(?<part>istiod|ztunnel|istio-cni)$/;
/** ConfigMaps that istiod's leaders hold; the others' locks are Leases. */
const LOCK =
  /^istio-(?:ip-autoallocate|leader|status-leader|namespace-controller-election|node-untaint|gateway-(?:deployment|status-leader)-.+)$/;
const NODES = ["node-a", "node-b"];

export async function measureApiCalls(
  stage: KubeStage,
  results: Results,
  progress: Progress,
): Promise<void> {
  for (const path of PATHS) {
    progress.step(`API calls of ${PODS} pods, ${path}`);
    await sleep(SETTLE_MS);
    const fromMs = Date.now();
    await using _pods = await createPods(stage, path);
    await sleep(SETTLE_MS);
    const calls = (await callsOf(stage, fromMs, Date.now())).filter((call) => !isLock(call));
    results.add("API calls for each new pod", path, "", calls.length / PODS);
    results.note(`API calls for ${PODS} new pods, ${path}: ${tally(calls)}`);
  }
}

/** With pods in the mesh to which nothing happens. */
export async function measureAtRest(
  stage: KubeStage,
  results: Results,
  progress: Progress,
): Promise<void> {
  progress.step(`requests in ${REST_MS / 1_000} s of rest`);
  await using _pods = await createPods(stage, "ambit");
  await sleep(SETTLE_MS);
  const fromMs = Date.now();
  await sleep(REST_MS);
  const calls = await callsOf(stage, fromMs, fromMs + REST_MS);
  const locks = calls.filter(isLock).length;
  const perMinute = (count: number): number => (count * 60_000) / REST_MS;
  const add = (what: string, count: number): void =>
    results.add(`requests at rest: ${what}`, "ambit", "/min", perMinute(count));
  add("all but watches and locks", calls.length - locks);
  add("locks renewed by leaders", locks);
  results.note(`In ${REST_MS / 1_000} s of rest, but watches: ${tally(calls)}`);
}

/** Resolves when all run and, in the mesh, are enrolled; disposing removes them. */
async function createPods(stage: KubeStage, path: Path): Promise<AsyncDisposable> {
  const namespace = NAMESPACES[path];
  const names = Array.from({ length: PODS }, (_, i) => `asked-${i}`);
  for (const [i, name] of names.entries())
    await stage.createPod({ namespace, name, node: NODES[i % NODES.length] ?? "" });
  for (const name of names) await stage.running(namespace, name);
  return {
    [Symbol.asyncDispose]: async () => {
      await Promise.all(names.map((name) => stage.deletePod(namespace, name)));
    },
  };
}

/** All but watches, by the mesh's parts, that arrived then. */
async function callsOf(stage: KubeStage, from: number, to: number): Promise<AuditEvent[]> {
  return (await stage.cluster.api.auditEvents()).filter((event) => {
    const at = Date.parse(event.requestReceivedTimestamp);
    const isDone = event.stage === "ResponseComplete" && event.verb !== "watch";
    return isDone && at >= from && at < to && OURS.test(event.user.username);
  });
}

/** A Lease, or the annotation of a ConfigMap that Istio's istiod looks at, too. */
function isLock({ objectRef }: AuditEvent): boolean {
  const { resource, name = "" } = objectRef ?? {};
  return resource === "leases" || (resource === "configmaps" && LOCK.test(name));
}

/** `12 istiod create tokenreviews, …`, most first. */
function tally(calls: readonly AuditEvent[]): string {
  const counts = new Map<string, number>();
  for (const { user, verb, objectRef, requestURI } of calls) {
    const part = OURS.exec(user.username)?.groups?.["part"] ?? "";
    const { resource = requestURI, subresource } = objectRef ?? {};
    const what = `${part} ${verb} ${resource}${subresource === undefined ? "" : `/${subresource}`}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const sorted = [...counts].toSorted(([, a], [, b]) => b - a);
  return sorted.map(([what, count]) => `${count} ${what}`).join(", ") || "none";
}
