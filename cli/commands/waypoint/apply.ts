// `ambit waypoint apply`
import * as Flags from "@oclif/core/flags";
import { RESOURCES, type Gateway, type Namespace } from "#lib/kube/objects.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { duration } from "../../flags.ts";
import { applyObject, type Applied } from "../../kube/apply-object.ts";
import { MODE_LABEL } from "../../kube/enrollment.ts";
import { warnWithoutMesh } from "../../kube/mesh-presence.ts";
import { openCluster, requireObject, type OpenCluster } from "../../kube/open-cluster.ts";
import { DEFAULT_TRAFFIC } from "../../kube/waypoints.ts";
import { KubeCommand } from "../../kube-command.ts";
import { API_VERSION } from "../../render/output.ts";
import { accountUsers, type AccountUsers, type Member } from "../../waypoint/account-users.ts";
import { gatewayFlags, waypointGateway, waypointName } from "../../waypoint/gateway.ts";
import { replicasOverlay, withParameters } from "../../waypoint/replicas.ts";
import { useWaypoint, useWaypointInTemplate, type UseChange } from "../../waypoint/use.ts";

export class WaypointApply extends KubeCommand {
  static override summary = "Make a waypoint, and choose what goes through it.";
  static override description =
    "A waypoint takes traffic only of what asks for it: --enroll-namespace labels the namespace, --enroll single objects of it; --service-account labels the services whose ready pods all run as that account, the pods, and the templates they are made from, which restarts them.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -n shop --enroll-namespace --wait",
    "<%= config.bin %> <%= command.id %> -n shop --enroll svc/cart --replicas 2 --wait",
    "<%= config.bin %> <%= command.id %> -n shop --service-account reviews --no-template",
    "<%= config.bin %> <%= command.id %> -n shop --name strict --for all --dry-run",
  ];
  static override flags = {
    ...gatewayFlags,
    "enroll-namespace": Flags.boolean({ summary: "All of the namespace uses it." }),
    enroll: Flags.string({
      summary:
        "What uses it: svc/<name>, pod/<name>, se/<name>, we/<name>, or ns/<its own>; repeat it.",
      helpValue: "<target>",
      multiple: true,
      multipleNonGreedy: true,
    }),
    replicas: Flags.integer({
      summary: "How many pods it has, by a ConfigMap the Gateway refers to; 1 without.",
      min: 1,
      max: 1_000,
      helpValue: "<n>",
    }),
    overwrite: Flags.boolean({ summary: "Also where another waypoint is in use." }),
    template: Flags.boolean({
      summary: "With --service-account: label pod templates too; --no-template leaves them.",
      default: true,
      allowNo: true,
    }),
    wait: Flags.boolean({ char: "w", summary: "Return when the waypoint takes traffic." }),
    timeout: duration({
      aliases: ["waypoint-timeout"],
      summary: "Longest wait of --wait.",
      default: 90_000,
      defaultHelp: async () => "90s",
    }),
    "dry-run": Flags.boolean({ summary: "Say what would happen, and change nothing." }),
    yes: Flags.boolean({ char: "y", summary: "Do not ask before pods are restarted." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(WaypointApply);
    const account = flags["service-account"];
    if (account !== undefined && flags["enroll-namespace"])
      throw new CliError("USAGE", "--service-account and --enroll-namespace exclude each other", [
        "one waypoint is for an account's pods, the other for all of the namespace",
      ]);
    const name = waypointName(flags);
    const mesh = await openCluster(flags, this.io);
    const namespace = flags.namespace ?? mesh.namespace;
    const home = await requireObject(mesh.cluster, RESOURCES.namespaces, null, namespace);
    const current = await currentGateway(mesh, namespace, name);
    const gateway = withParameters(waypointGateway(flags, namespace), current, flags.replicas);
    if (flags.replicas !== undefined && mesh.kube === null)
      throw new CliError("USAGE", "--replicas needs a Kubernetes cluster: a lab runs no waypoints");
    const members = await this.#members(mesh, home, flags);
    const users =
      account === undefined ? null : await accountUsers(mesh.cluster, namespace, account);
    await this.#confirmRestart(users, flags);
    const options = { overwrite: flags.overwrite, dryRun: flags["dry-run"] };
    // Refused before anything is changed.
    for (const member of members)
      await useWaypoint(mesh.cluster, member, name, { ...options, dryRun: true });
    const applied = await this.#apply(mesh, gateway, flags);
    const changes: UseChange[] = [];
    for (const member of members)
      changes.push(await useWaypoint(mesh.cluster, member, name, options));
    if (users !== null) changes.push(...(await this.#label(mesh, users, name, flags)));
    await warnWithoutMesh(mesh, this.io);
    await this.#warn(mesh, namespace, home.metadata.labels?.[MODE_LABEL], gateway.metadata);
    const suffix = flags["dry-run"] ? " (dry run)" : "";
    const items = [...applied, ...changes];
    const code =
      flags.wait && !flags["dry-run"]
        ? await this.#wait(mesh, namespace, name, flags.timeout)
        : EXIT.ok;
    await this.showOne(
      {
        text: items.map((i) => `${i.object} ${i.change}${suffix}\n`).join(""),
        document: {
          apiVersion: API_VERSION,
          kind: "WaypointResult",
          dryRun: flags["dry-run"],
          items,
        },
        names: items.map((i) => i.object.replace(" (pod template)", "")),
      },
      flags,
    );
    return code;
  }

  /** What --enroll-namespace and --enroll name. @throws {CliError} USAGE, NOT_FOUND */
  async #members(
    { cluster }: OpenCluster,
    home: Namespace,
    flags: {
      readonly "enroll-namespace": boolean;
      readonly enroll?: readonly string[] | undefined;
      readonly for?: string | undefined;
    },
  ): Promise<readonly Member[]> {
    const { enrollMembers } = await import("../../waypoint/enroll-members.ts");
    const words = [...(flags.enroll ?? [])];
    if (flags["enroll-namespace"]) words.unshift(`ns/${home.metadata.name}`);
    const members = await enrollMembers(cluster, home, words);
    const traffic = flags.for ?? DEFAULT_TRAFFIC;
    const isOfPods = members.some((m) => m.resource === RESOURCES.pods);
    if (isOfPods && (traffic === "service" || traffic === "none"))
      this.io.err(
        `warning: the waypoint takes traffic to ${traffic === "none" ? "nothing" : "services"} only, not to pods: --for workload or --for all`,
      );
    return members;
  }

  /** The Gateway and, when they are asked for, its parameters, owned by it. */
  async #apply(
    mesh: OpenCluster,
    gateway: Gateway,
    flags: { readonly "dry-run": boolean; readonly replicas?: number | undefined },
  ): Promise<readonly Applied[]> {
    const { namespace } = gateway.metadata;
    const options = { namespace, dryRun: flags["dry-run"] };
    const applied = await applyObject(mesh, gateway, options);
    if (flags.replicas === undefined) return [applied];
    const stored = await currentGateway(mesh, namespace ?? "", gateway.metadata.name);
    const overlay = replicasOverlay(gateway, stored, flags.replicas);
    return [applied, await applyObject(mesh, overlay, options)];
  }

  async #confirmRestart(
    users: AccountUsers | null,
    flags: { readonly template: boolean; readonly yes: boolean; readonly "dry-run": boolean },
  ): Promise<void> {
    if (users === null || !flags.template || flags["dry-run"] || users.owners.length === 0) return;
    const names = users.owners.map(
      (o) => `${o.object.kind.toLowerCase()}/${o.object.metadata.name}`,
    );
    await this.confirm(
      `Labelling the pod templates restarts the pods of ${names.join(", ")} (--no-template labels running pods only).`,
      flags.yes,
    );
  }

  async #label(
    mesh: OpenCluster,
    users: AccountUsers,
    name: string,
    flags: { readonly overwrite: boolean; readonly template: boolean; readonly "dry-run": boolean },
  ): Promise<UseChange[]> {
    const { cluster } = mesh;
    const options = { overwrite: flags.overwrite, dryRun: flags["dry-run"] };
    const changes: UseChange[] = [];
    for (const { name: service, accounts } of users.mixed)
      this.io.err(
        `warning: service/${service} is left out: pods of ${accounts.join(", ")} stand behind it as well`,
      );
    for (const member of [...users.services, ...users.pods])
      changes.push(await useWaypoint(cluster, member, name, options));
    if (flags.template)
      for (const owner of users.owners)
        changes.push(await useWaypointInTemplate(cluster, owner, name, flags["dry-run"]));
    if (users.pods.length === 0)
      this.io.err(
        "warning: no pod runs as this account yet; label them once they do, or apply again",
      );
    return changes;
  }

  /** What will not work as it stands: traffic of pods outside the mesh, and policies that shut the waypoint out. */
  async #warn(
    mesh: OpenCluster,
    namespace: string,
    mode: string | undefined,
    gateway: { readonly name: string },
  ): Promise<void> {
    if (mode !== "ambient")
      this.io.err(`warning: namespace ${namespace} is not enrolled: ambit enroll ns/${namespace}`);
    const { readMeshView } = await import("../../kube/mesh-view.ts");
    const { actionOf, hasTargets, mayAllow } = await import("../../kube/policies.ts");
    const view = await readMeshView(mesh.cluster, mesh.meshNamespace);
    const principal = `${view.trustDomain}/ns/${namespace}/sa/${gateway.name}`;
    for (const p of view.policies) {
      const where = p.metadata.namespace;
      if (where !== namespace && where !== view.rootNamespace) continue;
      if (actionOf(p) !== "ALLOW" || hasTargets(p) || mayAllow(p, principal)) continue;
      this.io.err(
        `warning: C40 AuthorizationPolicy ${where}/${p.metadata.name} does not admit the waypoint: add the principal ${principal} where its pods are reached through it`,
      );
    }
  }

  async #wait(
    mesh: OpenCluster,
    namespace: string,
    name: string,
    timeoutMs: number,
  ): Promise<ExitCode> {
    const { findWaypoints, waitProgrammed, waypointStatus } = await import(
      "../../waypoint/wait.ts"
    );
    this.io.err(`waiting for waypoint ${namespace}/${name}`);
    const look = () => findWaypoints(mesh.cluster, namespace, [name]);
    const [gateway] = await waitProgrammed(look, timeoutMs, this.io.signal);
    const status = gateway === undefined ? null : waypointStatus(gateway);
    if (status?.type === "Programmed" && status.status === "True") return EXIT.ok;
    throw new CliError(
      "TIMEOUT",
      `Waypoint ${namespace}/${name} is applied, but not programmed within ${timeoutMs} ms: ${status?.message ?? "it is gone"}`,
      [
        `ambit waypoint status ${name} -n ${namespace}`,
        `kubectl -n ${namespace} describe pods -l gateway.networking.k8s.io/gateway-name=${name}`,
      ],
    );
  }
}

async function currentGateway(
  { cluster }: OpenCluster,
  namespace: string,
  name: string,
): Promise<Gateway | null> {
  return await cluster.get(RESOURCES.gateways, namespace, name);
}
