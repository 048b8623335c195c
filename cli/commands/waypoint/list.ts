// `ambit waypoint list`
import * as Flags from "@oclif/core/flags";
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type Gateway, type Pod } from "#lib/kube/objects.ts";
import { AmbitCommand, type Globals } from "../../command.ts";
import { EXIT, type ExitCode } from "../../errors.ts";
import { selectorFlag } from "../../flags.ts";
import { warnWithoutMesh } from "../../kube/mesh-presence.ts";
import { openCluster } from "../../kube/open-cluster.ts";
import { isReady } from "../../kube/pod-state.ts";
import {
  DEFAULT_TRAFFIC,
  FOR_SERVICE_ACCOUNT,
  GATEWAY_NAME,
  isProgrammed,
  WAYPOINT_CLASS,
  WAYPOINT_FOR,
} from "../../kube/waypoints.ts";
import { listDocument } from "../../render/output.ts";
import type { Column } from "../../render/table.ts";
import { ageSince } from "../../render/units.ts";
import { usersOf } from "../../waypoint/use.ts";

interface Row {
  readonly namespace: string;
  readonly name: string;
  readonly revision: string;
  readonly traffic: string;
  readonly isDefaultTraffic: boolean;
  readonly programmed: boolean;
  readonly pods: { readonly ready: number; readonly all: number };
  readonly usedBy: readonly string[];
  readonly serviceAccount: string | null;
  readonly createdAt: string | undefined;
}

export class WaypointList extends AmbitCommand {
  static override summary = "List waypoints: what they take, whether they work, and who uses them.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -n shop",
    "<%= config.bin %> <%= command.id %> -A -o wide --watch",
  ];
  static override flags = {
    ...selectorFlag,
    watch: Flags.boolean({ char: "w", summary: "Show them again whenever they change." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(WaypointList);
    const mesh = await openCluster(flags, this.io);
    const namespace = flags["all-namespaces"] ? null : (flags.namespace ?? mesh.namespace);
    await warnWithoutMesh(mesh, this.io);
    const look = () => readRows(mesh.cluster, namespace, flags.selector);
    if (!flags.watch) return await this.#print(await look(), namespace, flags);
    const { repeat } = await import("../../kube/repeat.ts");
    await repeat(look, JSON.stringify, (rows) => this.#print(rows, namespace, flags), this.io);
    return EXIT.interrupted;
  }

  async #print(rows: readonly Row[], namespace: string | null, flags: Globals): Promise<ExitCode> {
    const generatedAt = new Date(this.io.now()).toISOString();
    return await this.show(
      {
        rows,
        columns: columns(flags["all-namespaces"], this.io.now()),
        name: (r) => `gateway.gateway.networking.k8s.io/${r.name}`,
        document: listDocument("WaypointList", rows, { generatedAt, partial: [] }),
        empty: `No waypoints${namespace === null ? "" : ` in namespace ${namespace}`}`,
      },
      flags,
    );
  }
}

async function readRows(
  cluster: Cluster,
  namespace: string | null,
  labelSelector: string | undefined,
): Promise<readonly Row[]> {
  const within = namespace === null ? {} : { namespace };
  const selector = labelSelector === undefined ? {} : { labelSelector };
  const [gateways, pods] = await Promise.all([
    cluster.list(RESOURCES.gateways, { ...within, ...selector }),
    cluster.list(RESOURCES.pods, { ...within, labelSelector: GATEWAY_NAME }),
  ]);
  const rows: Row[] = [];
  for (const g of gateways.filter((one) => one.spec?.gatewayClassName === WAYPOINT_CLASS)) {
    const { name, namespace: home = "" } = g.metadata;
    const users = await usersOf(cluster, { name, namespace: home });
    rows.push(
      rowOf(
        g,
        pods,
        users.map((u) => `${u.object.kind.toLowerCase()}/${u.object.metadata.name}`),
      ),
    );
  }
  return rows.sort(
    (a, b) => a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name),
  );
}

function rowOf(g: Gateway, pods: readonly Pod[], usedBy: readonly string[]): Row {
  const { name, namespace = "", labels, annotations, creationTimestamp } = g.metadata;
  const mine = pods.filter(
    (p) => p.metadata.namespace === namespace && p.metadata.labels?.[GATEWAY_NAME] === name,
  );
  return {
    namespace,
    name,
    revision: labels?.["istio.io/rev"] ?? "default",
    traffic: labels?.[WAYPOINT_FOR] ?? DEFAULT_TRAFFIC,
    isDefaultTraffic: labels?.[WAYPOINT_FOR] === undefined,
    programmed: isProgrammed(g),
    pods: { ready: mine.filter(isReady).length, all: mine.length },
    usedBy,
    serviceAccount: annotations?.[FOR_SERVICE_ACCOUNT] ?? null,
    createdAt: creationTimestamp,
  };
}

const MAX_SHOWN = 3;

function columns(withNamespace: boolean, now: number): readonly Column<Row>[] {
  return [
    ...(withNamespace ? [{ header: "NAMESPACE", value: (r: Row) => r.namespace }] : []),
    { header: "NAME", value: (r) => r.name },
    { header: "REVISION", value: (r) => r.revision },
    {
      header: "TRAFFIC",
      value: (r) => (r.isDefaultTraffic ? `${r.traffic} (default)` : r.traffic),
    },
    { header: "PROGRAMMED", value: (r) => (r.programmed ? "True" : "False") },
    { header: "ENDPOINTS", value: (r) => `${r.pods.ready}/${r.pods.all}` },
    {
      header: "USED-BY",
      value: ({ usedBy: u }) =>
        u.length === 0
          ? "-"
          : `${u.slice(0, MAX_SHOWN).join(",")}${u.length > MAX_SHOWN ? `,+${u.length - MAX_SHOWN}` : ""}`,
    },
    { header: "AGE", value: (r) => ageSince(r.createdAt, now) },
    { header: "SERVICE-ACCOUNT", wide: true, value: (r) => r.serviceAccount ?? "-" },
  ];
}
