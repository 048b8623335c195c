// What `enroll` and `unenroll` share: both set one label on namespaces or pods and report what came of it.
import * as Flags from "@oclif/core/flags";
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace, type Pod } from "#lib/kube/objects.ts";
import { AmbitCommand, type Globals } from "./command.ts";
import { CliError, EXIT, type ExitCode } from "./errors.ts";
import { argument } from "./flags.ts";
import { MODE_LABEL, tally, tallyText, type Tally } from "./kube/enrollment.ts";
import { FIELD_MANAGER, openCluster, requireObject } from "./kube/open-cluster.ts";
import { displayName, findResource } from "./kube/resource-names.ts";
import { tallyOf, waitEnrolled, type Scope } from "./kube/wait-enrolled.ts";
import { API_VERSION } from "./render/output.ts";

export const enrollArgs = {
  target: argument({
    description: "ns/<namespace> or pod/<pod> (the pod's namespace comes from -n).",
    required: true,
  }),
};

export const enrollFlags = {
  wait: Flags.boolean({
    summary: "Return when every pod concerned has followed, at most --timeout.",
  }),
  "dry-run": Flags.boolean({ summary: "Say what would happen, and change nothing." }),
};

export interface EnrollFlags extends Globals {
  readonly wait: boolean;
  readonly "dry-run": boolean;
}

/** How one of the two commands differs from the other. */
export interface Direction {
  readonly verb: "enrolled" | "unenrolled";
  readonly leaving: boolean;
  /** The label's value on a target; null removes it. */
  readonly value: (target: Target, namespace: Namespace | null) => string | null;
}

export interface Target {
  readonly resource: Resource;
  readonly object: KubeObject;
  readonly scope: Scope;
}

interface Outcome {
  readonly text: string;
  readonly item: {
    readonly target: string;
    readonly change: string;
    readonly captured: number;
    readonly pending: number;
    readonly skipped: Tally["skipped"];
  };
}

export abstract class EnrollCommand extends AmbitCommand {
  protected async change(
    words: readonly string[],
    flags: EnrollFlags,
    direction: Direction,
    exclude: readonly string[] = [],
  ): Promise<ExitCode> {
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    const home = flags.namespace ?? mesh.namespace;
    const targets: Target[] = [];
    for (const word of words) targets.push(await resolveTarget(cluster, word, home));
    const outcomes: Outcome[] = [];
    for (const target of targets)
      outcomes.push(await this.#one(cluster, target, flags, direction, exclude));
    await this.showOne(
      {
        text: outcomes.map((o) => `${o.text}\n`).join(""),
        document: {
          apiVersion: API_VERSION,
          kind: "EnrollResult",
          dryRun: flags["dry-run"],
          items: outcomes.map((o) => o.item),
        },
        names: outcomes.map((o) => o.item.target),
      },
      flags,
    );
    return EXIT.ok;
  }

  async #one(
    cluster: Cluster,
    target: Target,
    flags: EnrollFlags,
    direction: Direction,
    exclude: readonly string[],
  ): Promise<Outcome> {
    const { scope, object } = target;
    const name = displayName(target.resource, object.metadata.name);
    const namespace = await cluster.get(RESOURCES.namespaces, null, scope.namespace);
    const value = direction.value(target, namespace);
    const isSame = (object.metadata.labels?.[MODE_LABEL] ?? null) === value;
    if (flags["dry-run"]) {
      const foreseen = await foresee(cluster, target, value, exclude);
      const count = direction.leaving
        ? foreseen.outside.length
        : foreseen.pending.length + foreseen.captured.length;
      const would = direction.leaving ? "release" : "capture";
      return outcome(
        name,
        isSame ? "unchanged" : direction.verb,
        foreseen,
        `${name} ${direction.verb} (dry run: would ${would} ${count} pod${count === 1 ? "" : "s"})`,
      );
    }
    for (const pod of exclude)
      await this.#label(cluster, RESOURCES.pods, scope.namespace, pod, "none");
    if (!isSame)
      await this.#label(
        cluster,
        target.resource,
        object.metadata.namespace ?? null,
        object.metadata.name,
        value,
      );
    const options = {
      leaving: direction.leaving,
      timeoutMs: flags.timeout,
      signal: this.io.signal,
    };
    const result = flags.wait
      ? await waitEnrolled(cluster, scope, options)
      : await tallyOf(cluster, scope);
    const change = isSame ? `already ${direction.verb}` : direction.verb;
    const detail = direction.leaving ? leavingText(result) : tallyText(result);
    return outcome(
      name,
      isSame ? "unchanged" : direction.verb,
      result,
      `${name} ${change} (${detail})`,
    );
  }

  async #label(
    cluster: Cluster,
    resource: Resource,
    namespace: string | null,
    name: string,
    value: string | null,
  ): Promise<void> {
    const patch = { metadata: { labels: { [MODE_LABEL]: value } } };
    await cluster.patch(resource, namespace, name, patch, { fieldManager: FIELD_MANAGER });
  }
}

/** @throws {CliError} USAGE for another kind, NOT_FOUND */
async function resolveTarget(cluster: Cluster, word: string, home: string): Promise<Target> {
  const slash = word.indexOf("/");
  if (slash < 0)
    throw new CliError("USAGE", `What is ${JSON.stringify(word)}?`, [
      `write ns/${word} or pod/${word}`,
    ]);
  const resource = findResource(word.slice(0, slash));
  const name = word.slice(slash + 1);
  if (resource === RESOURCES.namespaces) {
    const object = await requireObject(cluster, resource, null, name);
    return { resource, object, scope: { namespace: name, pod: null } };
  }
  if (resource === RESOURCES.pods) {
    const namespace = home;
    const object = await requireObject(cluster, resource, namespace, name);
    return { resource, object, scope: { namespace, pod: name } };
  }
  throw new CliError("USAGE", `A ${resource.kind} cannot be enrolled: ${JSON.stringify(word)}`, [
    "enrol its namespace (ns/…) or its pods (pod/…)",
  ]);
}

/** The tally if `value` stood on the target now. */
async function foresee(
  cluster: Cluster,
  target: Target,
  value: string | null,
  exclude: readonly string[],
): Promise<Tally> {
  const { scope } = target;
  const namespace = await cluster.get(RESOURCES.namespaces, null, scope.namespace);
  const all = await cluster.list(RESOURCES.pods, { namespace: scope.namespace });
  const pods = all
    .filter((p) => scope.pod === null || p.metadata.name === scope.pod)
    .map((p): Pod => {
      if (exclude.includes(p.metadata.name)) return withLabel(p, "none");
      return scope.pod === null ? p : withLabel(p, value);
    })
    // What the agent will have undone counts as undone.
    .map((p) => ({ ...p, metadata: { ...p.metadata, annotations: {} } }));
  const after = scope.pod === null && namespace !== null ? withLabel(namespace, value) : namespace;
  return tally(pods, after);
}

function withLabel<T extends KubeObject>(object: T, value: string | null): T {
  const { [MODE_LABEL]: _, ...rest } = object.metadata.labels ?? {};
  const labels = value === null ? rest : { ...rest, [MODE_LABEL]: value };
  return { ...object, metadata: { ...object.metadata, labels } };
}

function leavingText(t: Tally): string {
  const released = t.outside.length + t.skipped.filter((s) => s.why === "opted out").length;
  const still = t.captured.length === 0 ? "" : `, ${t.captured.length} still captured`;
  return `${released} pod${released === 1 ? "" : "s"} outside the mesh${still}`;
}

function outcome(target: string, change: string, t: Tally, text: string): Outcome {
  const { skipped } = t;
  return {
    text,
    item: { target, change, captured: t.captured.length, pending: t.pending.length, skipped },
  };
}
