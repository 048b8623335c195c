// `ambit proxy-status`, short `ambit ps`
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { argument, nodeFlag } from "../flags.ts";
import { GATEWAY_NAME, WAYPOINT_CLASS } from "../kube/waypoints.ts";
import { whySilent } from "../kube/mesh-presence.ts";
import { KubeCommand } from "../kube-command.ts";
import { listDocument } from "../render/output.ts";
import type { Column } from "../render/table.ts";
import { ageSince } from "../render/units.ts";
import { didYouMean } from "../suggest.ts";
import type { ProgramVersions } from "../source/program-versions.ts";
import type { SyncedProxy } from "../source/sync-status.ts";

const CLASS_NAME = "gateway.networking.k8s.io/gateway-class-name";

interface Row {
  readonly name: string;
  readonly namespace: string;
  readonly kind: "ztunnel" | "waypoint";
  readonly node: string;
  /** Empty when it is not connected. */
  readonly istiod: string;
  readonly version: string;
  readonly sync: string;
  /** RFC 3339, or empty. */
  readonly lastAck: string;
  readonly types: SyncedProxy["types"];
}

export class ProxyStatus extends KubeCommand {
  static override summary =
    "Say which proxies are connected to istiod, and whether they have everything.";
  static override description =
    "Asks every istiod. SYNCED: all that was sent is acknowledged, the last of it LAST-ACK ago; STALE: not yet; NOT CONNECTED: istiod does not know the proxy. VERSION is what an istiod with the same image says of itself, else the tag of the image. Exits 3 when a proxy is not in sync.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> ztunnel-x7k2p.istio-system -o wide",
  ];
  static override args = {
    pod: argument({ description: "Only this proxy: <pod> or <pod>.<namespace>.", required: false }),
  };
  static override flags = nodeFlag;

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(ProxyStatus);
    const kube = await this.connect(flags);
    const { KubeSource } = await import("../source/kube-source.ts");
    const { syncStatus } = await import("../source/sync-status.ts");
    const { cluster, meshNamespace } = kube;
    const { istiodVersions } = await import("../source/program-versions.ts");
    const source = new KubeSource(kube);
    const [ztunnels, gateways, synced, versions] = await Promise.all([
      cluster.list(RESOURCES.pods, { namespace: meshNamespace, labelSelector: "app=ztunnel" }),
      cluster.list(RESOURCES.pods, {
        labelSelector: `${GATEWAY_NAME},${CLASS_NAME}=${WAYPOINT_CLASS}`,
      }),
      syncStatus(source, this.deadline(flags.timeout)),
      istiodVersions(source, this.deadline(flags.timeout)),
    ]);
    if (synced === null)
      throw await whySilent(
        kube,
        new CliError("UNREACHABLE", `No istiod of ${kube.name} answers`, [
          "ambit status shows which parts run",
        ]),
      );
    const all = [
      ...ztunnels.map((p) => rowOf(p, "ztunnel", synced, versions)),
      ...gateways.map((p) => rowOf(p, "waypoint", synced, versions)),
    ];
    const rows = chosen(all, args.pod, flags).toSorted(
      (a, b) => a.kind.localeCompare(b.kind) || a.node.localeCompare(b.node),
    );
    const generatedAt = new Date(this.io.now()).toISOString();
    await this.show(
      {
        rows,
        columns: columnsFor(rows, this.io.now()),
        name: (r) => `pod/${r.name}`,
        document: listDocument("ProxyStatusList", rows, { generatedAt, partial: [] }),
        empty: "no proxies",
      },
      flags,
    );
    return rows.every((r) => r.sync === "SYNCED") ? EXIT.ok : EXIT.finding;
  }
}

function rowOf(
  pod: Pod,
  kind: Row["kind"],
  synced: readonly SyncedProxy[],
  versions: ProgramVersions,
): Row {
  const { name, namespace = "" } = pod.metadata;
  const client = synced.find((c) => c.name === name && c.namespace === namespace);
  const states = client?.types.map((t) => t.status) ?? [];
  return {
    name,
    namespace,
    kind,
    node: pod.spec?.nodeName ?? "",
    istiod: client?.istiod ?? "",
    version: versions.of(pod),
    sync:
      client === undefined
        ? "NOT CONNECTED"
        : (states.find((s) => s === "STALE" || s === "NOT_SENT") ?? "SYNCED"),
    lastAck: client?.lastAck ?? "",
    types: client?.types ?? [],
  };
}

/** @throws {CliError} NOT_FOUND */
function chosen(
  all: readonly Row[],
  pod: string | undefined,
  {
    namespace,
    node,
  }: { readonly namespace?: string | undefined; readonly node?: string | undefined },
): readonly Row[] {
  const onNode = all.filter((r) => node === undefined || r.node === node);
  if (pod === undefined)
    return onNode.filter((r) => namespace === undefined || r.namespace === namespace);
  const [name = "", home = namespace] = pod.replace(/^pods?\//, "").split(".", 2);
  const found = onNode.filter(
    (r) => r.name === name && (home === undefined || r.namespace === home),
  );
  if (found.length > 0) return found;
  throw new CliError("NOT_FOUND", `No proxy ${JSON.stringify(pod)}`, [
    ...didYouMean(
      name,
      all.map((r) => r.name),
    ),
    "ambit proxy-status lists them",
  ]);
}

function columnsFor(rows: readonly Row[], now: number): readonly Column<Row>[] {
  const types = [...new Set(rows.flatMap((r) => r.types.map((t) => t.type)))];
  return [
    { header: "NAME", value: (r) => `${r.name}.${r.namespace}` },
    { header: "KIND", value: (r) => r.kind },
    { header: "NODE", value: (r) => r.node || "-" },
    { header: "ISTIOD", value: (r) => r.istiod || "-" },
    { header: "VERSION", value: (r) => r.version || "-" },
    { header: "SYNC", value: (r) => r.sync },
    { header: "LAST-ACK", value: (r) => (r.lastAck === "" ? "-" : ageSince(r.lastAck, now)) },
    ...types.map((type) => ({
      header: type.toUpperCase(),
      wide: true,
      value: (r: Row) => r.types.find((t) => t.type === type)?.status ?? "-",
    })),
  ];
}
