// Waits until the CNI agent has done to pods what their labels now ask for.
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace, type Pod } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { tally, wantsMesh, type Tally } from "./enrollment.ts";

export interface Scope {
  readonly namespace: string;
  /** Which pods of it; `null`: all. */
  readonly pods: ((pod: Pod) => boolean) | null;
}

export async function tallyOf(cluster: Cluster, scope: Scope): Promise<Tally> {
  const [namespace, pods] = await readScope(cluster, scope);
  return tally(pods, namespace);
}

/**
 * Watches the scope's pods until none is pending (or still captured, when leaving the mesh).
 * @throws {CliError} TIMEOUT naming the pods that are not done
 */
export async function waitEnrolled(
  cluster: Cluster,
  scope: Scope,
  options: { readonly leaving: boolean; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<Tally> {
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const done = new AbortController();
  const signal = AbortSignal.any([options.signal, deadline, done.signal]);
  const pods = new Map<string, Pod>();
  const namespace = await cluster.get(RESOURCES.namespaces, null, scope.namespace);
  let unfinished: readonly string[] = [];
  const look = (): void => {
    unfinished = unfinishedPods([...pods.values()], namespace, options.leaving);
    if (unfinished.length === 0) done.abort();
  };
  let isSynced = false;
  await cluster.watch(
    RESOURCES.pods,
    {
      onEvents(events) {
        for (const { type, object } of events) {
          if (scope.pods?.(object) === false) continue;
          if (type === "deleted") pods.delete(object.metadata.name);
          else pods.set(object.metadata.name, object);
        }
        if (isSynced) look();
      },
      onSynced() {
        isSynced = true;
        look();
      },
    },
    { namespace: scope.namespace, signal },
  );
  options.signal.throwIfAborted();
  if (unfinished.length > 0 || !isSynced)
    throw new CliError(
      "TIMEOUT",
      `${unfinished.length} pod(s) of ${scope.namespace} not ${options.leaving ? "released" : "captured"} within ${options.timeoutMs} ms: ${unfinished.join(", ")}`,
      ["is the CNI agent of their node running? ambit status, in a lab ambit lab status"],
    );
  return tally([...pods.values()], namespace);
}

function unfinishedPods(
  pods: readonly Pod[],
  namespace: Namespace | null,
  leaving: boolean,
): readonly string[] {
  const t = tally(pods, namespace);
  if (!leaving) return t.pending;
  const stay = new Set(pods.filter((p) => wantsMesh(p, namespace)).map((p) => p.metadata.name));
  return t.captured.filter((name) => !stay.has(name));
}

async function readScope(
  cluster: Cluster,
  scope: Scope,
): Promise<readonly [Namespace | null, readonly Pod[]]> {
  const namespace = await cluster.get(RESOURCES.namespaces, null, scope.namespace);
  const pods = await cluster.list(RESOURCES.pods, { namespace: scope.namespace });
  return [namespace, pods.filter((p) => scope.pods?.(p) ?? true)];
}
