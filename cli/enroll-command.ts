// What `enroll` and `unenroll` share: both set one label on namespaces or pods and report what came of it.
import * as Flags from "@oclif/core/flags";
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace, type Pod, type PodController } from "#lib/kube/objects.ts";
import type { Globals } from "./command.ts";
import { enrollTarget, labelPatch, labelsOf, type Target } from "./enroll-target.ts";
import { CliError, EXIT, type ExitCode } from "./errors.ts";
import { argument } from "./flags.ts";
import { MODE_LABEL, tally, tallyText, type Tally } from "./kube/enrollment.ts";
import { warnWithoutMesh } from "./kube/mesh-presence.ts";
import { FIELD_MANAGER, openCluster, type OpenCluster } from "./kube/open-cluster.ts";
import { displayName } from "./kube/resource-names.ts";
import { USE_WAYPOINT } from "./kube/waypoints.ts";
import { KubeCommand } from "./kube-command.ts";
import { tallyOf, waitEnrolled } from "./kube/wait-enrolled.ts";
import { API_VERSION } from "./render/output.ts";
import { formatDuration } from "./render/units.ts";
import { didYouMean } from "./suggest.ts";

export const enrollArgs = {
  target: argument({
    description:
      "ns/<namespace>, pod/<pod>, or deploy/, sts/ or ds/<name>, whose namespace is that of -n.",
    required: true,
  }),
};

export const enrollFlags = {
  wait: Flags.boolean({
    summary: "Return when every pod concerned has followed, at most --timeout.",
  }),
  "dry-run": Flags.boolean({ summary: "Say what would happen, and change nothing." }),
  template: Flags.boolean({
    summary:
      "Label the pod template of a Deployment and the like, which restarts its pods; --no-template labels running pods only.",
    default: true,
    allowNo: true,
  }),
  yes: Flags.boolean({ char: "y", summary: "Do not ask before pods are restarted." }),
};

export interface EnrollFlags extends Globals {
  readonly wait: boolean;
  readonly "dry-run": boolean;
  readonly template: boolean;
  readonly yes: boolean;
  /** Name of a Gateway in the target's namespace. */
  readonly waypoint?: string | undefined;
}

/** How one of the two commands differs from the other. */
export interface Direction {
  readonly verb: "enrolled" | "unenrolled";
  readonly leaving: boolean;
  /** The label's value on a target; null removes it. */
  readonly value: (target: Target, namespace: Namespace | null) => string | null;
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

export abstract class EnrollCommand extends KubeCommand {
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
    for (const word of words) targets.push(await enrollTarget(cluster, word, home));
    if (flags.waypoint !== undefined)
      for (const { scope } of targets)
        await this.#requireWaypoint(mesh, scope.namespace, flags.waypoint);
    await this.#confirmRestart(targets, flags, direction);
    if (!direction.leaving) await warnWithoutMesh(mesh, this.io);
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
    const labels = {
      [MODE_LABEL]: value,
      ...(flags.waypoint === undefined ? {} : { [USE_WAYPOINT]: flags.waypoint }),
    };
    const isPodsOnly = target.hasTemplate && !flags.template;
    const old = labelsOf(target);
    const isSame =
      !isPodsOnly && Object.entries(labels).every(([key, v]) => (old[key] ?? null) === v);
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
      await this.#label(cluster, RESOURCES.pods, scope.namespace, pod, { [MODE_LABEL]: "none" });
    if (isPodsOnly) {
      const all = await cluster.list(RESOURCES.pods, { namespace: scope.namespace });
      for (const pod of all.filter((p) => scope.pods?.(p) ?? true))
        await this.#label(cluster, RESOURCES.pods, scope.namespace, pod.metadata.name, labels);
    } else if (!isSame) {
      const { resource } = target;
      const patch = labelPatch(target, labels);
      const place = object.metadata.namespace ?? null;
      const options = { fieldManager: FIELD_MANAGER };
      await cluster.patch(resource, place, object.metadata.name, patch, options);
      if (flags.wait && target.hasTemplate) await this.#waitRestarted(cluster, target, flags);
    }
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
    labels: Readonly<Record<string, string | null>>,
  ): Promise<void> {
    const patch = { metadata: { labels } };
    await cluster.patch(resource, namespace, name, patch, { fieldManager: FIELD_MANAGER });
  }

  /** @throws {CliError} NOT_FOUND: what asks for a waypoint that is not there is served without one */
  async #requireWaypoint({ cluster }: OpenCluster, namespace: string, name: string): Promise<void> {
    const { listServed } = await import("./kube/mesh-view.ts");
    const gateways = await listServed(cluster, RESOURCES.gateways, namespace);
    if (gateways.some((g) => g.metadata.name === name)) return;
    throw new CliError("NOT_FOUND", `No waypoint ${name} in namespace ${namespace}`, [
      ...didYouMean(
        name,
        gateways.map((g) => g.metadata.name),
      ),
      `make it with: ambit waypoint apply -n ${namespace} --name ${name} --wait`,
    ]);
  }

  async #confirmRestart(
    targets: readonly Target[],
    flags: EnrollFlags,
    { verb }: Direction,
  ): Promise<void> {
    const names = targets
      .filter((t) => t.hasTemplate)
      .map((t) => displayName(t.resource, t.object.metadata.name));
    if (names.length === 0 || !flags.template || flags["dry-run"]) return;
    await this.confirm(
      `The pods of ${names.join(", ")} are restarted to be ${verb} (--no-template labels running pods only). Go on?`,
      flags.yes,
    );
  }

  /** @throws {CliError} TIMEOUT */
  async #waitRestarted(cluster: Cluster, target: Target, flags: EnrollFlags): Promise<void> {
    const { readinessOf } = await import("./install/rollout.ts");
    const { systemClock } = await import("#lib/base/clock.ts");
    const { name, namespace = "" } = target.object.metadata;
    const deadline = systemClock.now() + flags.timeout;
    this.io.err(`waiting for the new pods of ${displayName(target.resource, name)}`);
    for (;;) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- of one of the kinds with a template
      const now = (await cluster.get(target.resource, namespace, name)) as PodController | null;
      if (now === null || readinessOf(now).isDone) return;
      if (systemClock.now() > deadline)
        throw new CliError(
          "TIMEOUT",
          `${displayName(target.resource, name)} has not replaced its pods within ${formatDuration(flags.timeout)}`,
          [`kubectl -n ${namespace} rollout status ${target.resource.plural}/${name}`],
        );
      await systemClock.sleep(RESTART_POLL_MS, this.io.signal);
      this.io.signal.throwIfAborted();
    }
  }
}

const RESTART_POLL_MS = 500;

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
    .filter((p) => scope.pods?.(p) ?? true)
    .map((p): Pod => {
      if (exclude.includes(p.metadata.name)) return withLabel(p, "none");
      return scope.pods === null ? p : withLabel(p, value);
    })
    // What the agent will have undone counts as undone.
    .map((p) => ({ ...p, metadata: { ...p.metadata, annotations: {} } }));
  const after = scope.pods === null && namespace !== null ? withLabel(namespace, value) : namespace;
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
