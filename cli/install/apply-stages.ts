// An installation, stage by stage: apply the objects, wait for what they start, tell how far it is.
import { systemClock } from "#lib/base/clock.ts";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { JsonObject } from "#lib/kube/json.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import type { Applied } from "../kube/apply-object.ts";
import type { Kube } from "../kube/connect.ts";
import { conditionOf } from "../kube/pod-state.ts";
import { displayObject } from "../kube/resource-names.ts";
import { serverSideApply } from "../kube/server-side-apply.ts";
import { metadataOf, textAt } from "../manifest/object-id.ts";
import { formatDuration } from "../render/units.ts";
import { waitRollout, workloadsOf, type Readiness } from "./rollout.ts";
import { isOptional, planStages, type Stage } from "./stages.ts";

export interface StageResult {
  readonly stage: Stage;
  readonly objects: readonly Applied[];
  /** `null` when nothing was waited for. */
  readonly readiness: Readiness | null;
  readonly elapsedMs: number;
}

export interface ApplyStagesOptions {
  readonly dryRun: boolean;
  readonly waits: boolean;
  /** For each stage. */
  readonly timeoutMs: number;
}

/** @throws {CliError} TIMEOUT for a stage that does not get ready; {KubeError} for an object that is refused */
export async function applyStages(
  kube: Kube,
  objects: readonly JsonObject[],
  io: Io,
  { dryRun, waits, timeoutMs }: ApplyStagesOptions,
): Promise<StageResult[]> {
  const results: StageResult[] = [];
  const plan = planStages(objects);
  const namespaces = new Set<string>();
  for (const { stage, objects: members } of plan) {
    const started = systemClock.now();
    const applied: Applied[] = [];
    const skipped = new Set<string>();
    for (const o of members) {
      const resource = await served(kube, o);
      if (resource === null) {
        skipped.add(textAt(o, "kind"));
        continue;
      }
      const object = dryRun ? await checkable(kube, o, resource, namespaces) : o;
      const { change } = await serverSideApply(kube, resource, object as unknown as KubeObject, {
        dryRun,
        signal: io.signal,
      });
      applied.push({ object: displayObject(o as unknown as KubeObject, resource), change });
    }
    if (skipped.size > 0)
      io.err(`  left out, since the cluster does not serve them: ${[...skipped].join(", ")}`);
    const wait = waits && !dryRun;
    if (wait && stage === "CRDs") await waitEstablished(kube, members, timeoutMs, io.signal);
    const readiness =
      wait && workloadsOf(members).length > 0
        ? await waitRollout(kube, members, {
            timeoutMs,
            signal: io.signal,
            clock: systemClock,
            onProgress: ({ ready, desired }) =>
              io.err(
                `  ${stage}: ${ready}/${desired} ready (${formatDuration(systemClock.now() - started)})`,
              ),
          })
        : null;
    results.push({ stage, objects: applied, readiness, elapsedMs: systemClock.now() - started });
  }
  return results;
}

/** `null` for an optional kind that is not there. @throws {CliError} for any other */
async function served(kube: Kube, o: JsonObject): Promise<Resource | null> {
  const { findResource } = await import("#lib/kube/api-server/discovery.ts");
  const found = await findResource(kube.server, textAt(o, "apiVersion"), textAt(o, "kind"));
  if (found !== null || isOptional(o)) return found;
  throw new CliError(
    "FAILED",
    `${kube.name} serves no ${textAt(o, "kind")} of ${textAt(o, "apiVersion")}`,
    ["ambit check --pre says whether this Kubernetes is supported"],
  );
}

/** In a dry run no namespace comes into being: what belongs in it is checked in `default`. */
async function checkable(
  kube: Kube,
  o: JsonObject,
  resource: Resource,
  known: Set<string>,
): Promise<JsonObject> {
  const { namespace } = metadataOf(o);
  if (!resource.namespaced || typeof namespace !== "string") return o;
  if (known.has(namespace)) return o;
  if ((await kube.cluster.get(RESOURCES.namespaces, null, namespace)) !== null) {
    known.add(namespace);
    return o;
  }
  return { ...o, metadata: { ...metadataOf(o), namespace: "default" } };
}

const POLL_MS = 200;

async function waitEstablished(
  kube: Kube,
  crds: readonly JsonObject[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = systemClock.now() + timeoutMs;
  for (const o of crds) {
    const name = textAt(metadataOf(o), "name");
    for (;;) {
      const crd = await kube.cluster.get(RESOURCES.customResourceDefinitions, null, name);
      const { status } = (crd ?? {}) as {
        status?: { conditions?: Parameters<typeof conditionOf>[0] };
      };
      if (conditionOf(status?.conditions, "Established")?.status === "True") break;
      if (systemClock.now() > deadline) {
        const why = conditionOf(status?.conditions, "NamesAccepted")?.message ?? "no reason given";
        throw new CliError("TIMEOUT", `${name} is not served after ${formatDuration(timeoutMs)}`, [
          why,
        ]);
      }
      await systemClock.sleep(POLL_MS, signal);
      signal.throwIfAborted();
    }
  }
}
