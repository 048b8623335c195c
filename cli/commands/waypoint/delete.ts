// `ambit waypoint delete`
import * as Flags from "@oclif/core/flags";
import type { Cluster } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES, type Gateway } from "#lib/kube/objects.ts";
import { AmbitCommand } from "../../command.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { openCluster, requireObject } from "../../kube/open-cluster.ts";
import { displayName } from "../../kube/resource-names.ts";
import { WAYPOINT_CLASS } from "../../kube/waypoints.ts";
import { API_VERSION } from "../../render/output.ts";
import { leaveWaypoint, usersOf } from "../../waypoint/use.ts";
import { findWaypoints } from "../../waypoint/wait.ts";

export class WaypointDelete extends AmbitCommand {
  static override summary = "Delete waypoints by name, or all of a namespace.";
  static override description =
    "Only Gateways of the class istio-waypoint are touched. --unenroll takes away the labels that ask for them, also those of a waypoint that is gone already; without it traffic of what still asks goes on at layer 4 only, and is named.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> waypoint -n shop --unenroll",
    "<%= config.bin %> <%= command.id %> --all -n shop",
  ];
  static override usage = "waypoint delete NAME... [FLAGS]";
  static override strict = false;
  static override args = { name: argument({ description: "Waypoints.", required: false }) };
  static override flags = {
    all: Flags.boolean({ summary: "Every waypoint of the namespace." }),
    unenroll: Flags.boolean({ summary: "Take away the labels that ask for them." }),
    "dry-run": Flags.boolean({ summary: "Say what would happen, and change nothing." }),
  };

  override async run(): Promise<ExitCode> {
    const { argv, flags } = await this.parse(WaypointDelete);
    const names = argv.map(String);
    if (names.length === 0 && !flags.all)
      throw new CliError("USAGE", "Which waypoint?", ["give names, or --all"]);
    if (names.length > 0 && flags.all)
      throw new CliError("USAGE", "Names and --all exclude each other", ["give one of them"]);
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    if (flags["all-namespaces"] && !flags.all)
      throw new CliError("USAGE", "Names and --all-namespaces exclude each other", ["use -n"]);
    const namespace = flags["all-namespaces"] ? null : (flags.namespace ?? mesh.namespace);
    const doomed: Gateway[] = [];
    const gone: { readonly name: string; readonly namespace: string }[] = [];
    if (flags.all) doomed.push(...(await findWaypoints(cluster, namespace, [])));
    for (const name of names) {
      const gateway = await findGateway(cluster, namespace, name, flags.unenroll);
      if (gateway === null) {
        gone.push({ name, namespace: namespace ?? "" });
        continue;
      }
      if (gateway.spec?.gatewayClassName !== WAYPOINT_CLASS)
        throw new CliError(
          "USAGE",
          `Gateway ${name} is of class ${gateway.spec?.gatewayClassName}: no waypoint`,
          [`ambit delete gateway ${name} -n ${namespace}`],
        );
      doomed.push(gateway);
    }
    const items: { object: string; change: string }[] = [];
    for (const waypoint of gone) {
      this.io.err(
        `${displayName(RESOURCES.gateways, waypoint.name)} is not there: only labels that name it go`,
      );
      items.push(...(await leaveWaypoint(cluster, waypoint, flags["dry-run"])));
    }
    for (const { metadata } of doomed) {
      const waypoint = { name: metadata.name, namespace: metadata.namespace ?? "" };
      if (flags.unenroll) items.push(...(await leaveWaypoint(cluster, waypoint, flags["dry-run"])));
      else
        for (const { resource, object } of await usersOf(cluster, waypoint))
          this.io.err(
            `warning: ${displayName(resource, object.metadata.name)} still asks for it: --unenroll takes the label away`,
          );
      if (!flags["dry-run"])
        await cluster.delete(RESOURCES.gateways, waypoint.namespace, waypoint.name);
      items.push({ object: displayName(RESOURCES.gateways, waypoint.name), change: "deleted" });
    }
    if (doomed.length === 0 && gone.length === 0)
      this.io.err(`No waypoints${namespace === null ? "" : ` in namespace ${namespace}`}`);
    const suffix = flags["dry-run"] ? " (dry run)" : "";
    await this.showOne(
      {
        text: items.map((i) => `${i.object} ${i.change}${suffix}\n`).join(""),
        document: {
          apiVersion: API_VERSION,
          kind: "DeleteResult",
          dryRun: flags["dry-run"],
          items,
        },
        names: items.map((i) => i.object.replace(" (pod template)", "")),
      },
      flags,
    );
    return EXIT.ok;
  }
}

/** `null` when there is none, but labels that name it are to be taken away. @throws {CliError} NOT_FOUND without either */
async function findGateway(
  cluster: Cluster,
  namespace: string | null,
  name: string,
  leaves: boolean,
): Promise<Gateway | null> {
  try {
    return await requireObject(cluster, RESOURCES.gateways, namespace, name);
  } catch (error) {
    const isMissing =
      (error instanceof CliError && error.code === "NOT_FOUND") ||
      (error instanceof KubeError && error.code === "NOT_SERVED"); // the Gateway API went, too
    if (!leaves || !isMissing) throw error;
    const left = await leaveWaypoint(cluster, { name, namespace: namespace ?? "" }, true);
    if (left.length > 0) return null;
    throw error;
  }
}
