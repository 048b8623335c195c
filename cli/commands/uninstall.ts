// `ambit uninstall`
import * as Flags from "@oclif/core/flags";
import { systemClock } from "#lib/base/clock.ts";
import { RESOURCES, type PodController } from "#lib/kube/objects.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { duration } from "../flags.ts";
import { manifestFlags, renderEverything } from "../install/profile.ts";
import type { Kube } from "../kube/connect.ts";
import { displayName } from "../kube/resource-names.ts";
import { isWaypoint } from "../kube/waypoints.ts";
import { KubeCommand } from "../kube-command.ts";
import { API_VERSION } from "../render/output.ts";
import { formatDuration } from "../render/units.ts";
import type { Enrolled } from "../uninstall/enrolled.ts";
import { deleteNamespace } from "../uninstall/delete-namespace.ts";
import type { Doomed } from "../uninstall/plan.ts";

const POLL_MS = 500;
const CRD_POLL_MS = 200;

export class Uninstall extends KubeCommand {
  static override summary = "Remove the mesh from a Kubernetes cluster.";
  static override description =
    "Refuses while pods are in the mesh, unless --unenroll takes them out first. The node proxies go before the CNI agents, which take their plugin with them, and istiod goes last; then what it wrote: root certificates, leases, its signing key, its GatewayClasses. CRDs stay, with their objects, unless --purge is given; waypoints then go too.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> --dry-run",
    "<%= config.bin %> <%= command.id %> --unenroll --purge -y",
  ];
  static override flags = {
    overlay: manifestFlags.overlay,
    unenroll: Flags.boolean({ summary: "First take every namespace and pod out of the mesh." }),
    purge: Flags.boolean({ summary: "CRDs, their objects and waypoints too." }),
    force: Flags.boolean({ summary: "Do not wait for pods to be released." }),
    yes: Flags.boolean({ char: "y", aliases: ["skip-confirmation"], summary: "Do not ask." }),
    "dry-run": Flags.boolean({ summary: "Say what would go, in order, and change nothing." }),
    timeout: duration({
      summary: "Longest wait for pods to be released or to end, or for the namespace to be gone.",
      default: 120_000,
      defaultHelp: async () => "2m",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Uninstall);
    const rendered = await renderEverything(flags);
    const kube = await this.connect(flags);
    const { findEnrolled, unenroll, waitReleased } = await import("../uninstall/enrolled.ts");
    const { planUninstall } = await import("../uninstall/plan.ts");
    const enrolled = await findEnrolled(kube.cluster);
    const hasAny = enrolled.namespaces.length + enrolled.pods.length + enrolled.captured.length > 0;
    if (hasAny && !flags.unenroll && !flags["dry-run"]) throw refusal(enrolled);
    const plan = await planUninstall(kube, rendered, flags);
    const waypoints = await findWaypoints(kube);
    const doomed = [...(flags.purge ? waypoints : []), ...plan.doomed];
    const kept = [...plan.kept];
    if (!flags.purge && waypoints.length > 0)
      kept.push(
        `waypoints ${waypoints.map((w) => `${w.namespace}/${w.name}`).join(", ")}, which nobody keeps up any more: --purge deletes them`,
      );
    for (const k of kept) this.io.err(`stays: ${k}`);
    const isNothing = doomed.length === 0 && plan.namespace === null && !hasAny;
    if (!flags["dry-run"] && !isNothing)
      await this.confirm(
        `Remove the mesh from ${kube.name}: ${doomed.length + (plan.namespace === null ? 0 : 1)} objects?`,
        flags.yes,
      );
    const items: { object: string; change: string }[] = [];
    if (flags.unenroll)
      for (const name of [
        ...enrolled.namespaces.map((n) => `namespace/${n}`),
        ...enrolled.pods.map((p) => `pod/${p}`),
      ])
        items.push({ object: name, change: "unenrolled" });
    if (flags.unenroll && !flags["dry-run"]) {
      await unenroll(kube.cluster, enrolled);
      this.io.err(`waiting until ${enrolled.captured.length} pod(s) are released`);
      if (!flags.force) await waitReleased(kube.cluster, flags.timeout, this.io.signal);
    }
    if (flags.purge) {
      const { leaveWaypoint } = await import("../waypoint/use.ts");
      for (const { name, namespace } of waypoints)
        items.push(
          ...(await leaveWaypoint(
            kube.cluster,
            { name, namespace: namespace ?? "" },
            flags["dry-run"],
          )),
        );
    }
    for (const d of doomed) {
      const change = flags["dry-run"] ? "would be deleted" : "deleted";
      if (!flags["dry-run"]) await this.#delete(kube, d, flags.timeout);
      items.push({
        object: `${displayName(d.resource, d.name)}${d.namespace === null ? "" : ` -n ${d.namespace}`}`,
        change,
      });
    }
    if (!flags["dry-run"]) await this.#waitCrds(kube, doomed, flags.timeout);
    if (plan.namespace !== null) {
      if (!flags["dry-run"]) await deleteNamespace(kube, plan.namespace, this.io, flags.timeout);
      items.push({
        object: `namespace/${plan.namespace}`,
        change: flags["dry-run"] ? "would be deleted" : "deleted",
      });
    }
    if (items.length === 0) this.io.err(`nothing of the mesh is in ${kube.name}`);
    await this.showOne(
      {
        text: items.map((i) => `${i.object} ${i.change}\n`).join(""),
        document: {
          apiVersion: API_VERSION,
          kind: "UninstallResult",
          dryRun: flags["dry-run"],
          items,
          kept,
        },
        names: items.map((i) => i.object.split(" ")[0] ?? ""),
      },
      flags,
    );
    return EXIT.ok;
  }

  /** The API server deletes their objects first, and does not serve a new definition of the name before that. */
  async #waitCrds(kube: Kube, doomed: readonly Doomed[], timeoutMs: number): Promise<void> {
    const deadline = systemClock.now() + timeoutMs;
    for (const { resource, name } of doomed) {
      if (resource.kind !== RESOURCES.customResourceDefinitions.kind) continue;
      while ((await kube.cluster.get(resource, null, name)) !== null) {
        if (systemClock.now() > deadline)
          throw new CliError("TIMEOUT", `${name} is not gone within ${formatDuration(timeoutMs)}`, [
            `kubectl get ${name} -A lists what holds it`,
          ]);
        await systemClock.sleep(CRD_POLL_MS, this.io.signal);
        this.io.signal.throwIfAborted();
      }
    }
  }

  /** What runs is waited for: it may have something to take back, and needs its permissions for that. */
  async #delete(kube: Kube, d: Doomed, timeoutMs: number): Promise<void> {
    const { podsOf } = await import("../install/rollout.ts");
    const object = d.waits ? await kube.cluster.get(d.resource, d.namespace, d.name) : null;
    await kube.cluster.delete(d.resource, d.namespace, d.name);
    if (object === null) return;
    this.io.err(`waiting until the pods of ${displayName(d.resource, d.name)} have ended`);
    const deadline = systemClock.now() + timeoutMs;
    for (;;) {
      const left = await podsOf(kube, object as PodController);
      if (left.length === 0) return;
      if (systemClock.now() > deadline)
        throw new CliError(
          "TIMEOUT",
          `${left.length} pod(s) of ${d.name} have not ended within ${formatDuration(timeoutMs)}: ${left.map((p) => p.metadata.name).join(", ")}`,
          [
            `kubectl -n ${d.namespace} describe pod ${left[0]?.metadata.name}`,
            "running ambit uninstall again goes on from here",
          ],
        );
      await systemClock.sleep(POLL_MS, this.io.signal);
      this.io.signal.throwIfAborted();
    }
  }
}

async function findWaypoints(kube: Kube): Promise<Doomed[]> {
  const { listServed } = await import("../kube/mesh-view.ts");
  return (await listServed(kube.cluster, RESOURCES.gateways))
    .filter(isWaypoint)
    .map(({ metadata }) => ({
      resource: RESOURCES.gateways,
      namespace: metadata.namespace ?? "",
      name: metadata.name,
      waits: false,
    }));
}

function refusal({ namespaces, pods, captured }: Enrolled): CliError {
  const who = [
    ...(namespaces.length === 0 ? [] : [`namespaces ${namespaces.join(", ")}`]),
    ...(pods.length === 0 ? [] : [`pods ${pods.slice(0, 5).join(", ")}`]),
  ];
  const what = who.length === 0 ? `pods ${captured.slice(0, 5).join(", ")}` : who.join(" and ");
  return new CliError(
    "CONFLICT",
    `The mesh is in use: ${what} (${captured.length} pod(s) captured)`,
    [
      "--unenroll takes them out first, without restarting anything",
      "or one by one: ambit unenroll ns/<name> --wait",
    ],
  );
}
