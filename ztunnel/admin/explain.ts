// `/ambit/explain?source=shop/curl&destination=10.96.0.5:80`: a connection on paper, decided by the same
// functions as real ones, from this node's view of the mesh.
import type { HttpReply, Route } from "#lib/obs/http-server.ts";
import { explainConnection } from "#lib/model/explain.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { Workload } from "#lib/model/workload.ts";
import { tryParseSocketAddr, type Ip, type SocketAddr } from "#lib/net/ip.ts";
import { tryParseSpiffeId } from "#lib/net/spiffe.ts";
import { candidates } from "../dns/resolve.ts";

const USAGE =
  "usage: /ambit/explain?source=<namespace>/<pod>&destination=<ip or name>:<port>[&identity=spiffe://...]\n";

export function explainRoute(
  tables: MeshTables,
  settings: { readonly network: string; readonly clusterDomain: string },
): Route {
  return {
    methods: ["GET", "HEAD"],
    handle: ({ url }): HttpReply => {
      const { searchParams } = url;
      const source = findSource(tables, searchParams.get("source") ?? "");
      if (source === null) return { status: 404, body: `Unknown source\n${USAGE}` };
      const wanted = searchParams.get("destination") ?? "";
      const destination = findDestination(tables, wanted, source, settings.clusterDomain);
      if (destination === null) return { status: 404, body: `Unknown destination\n${USAGE}` };
      const identity = searchParams.get("identity");
      const asIdentity = identity === null ? null : tryParseSpiffeId(identity);
      if (identity !== null && asIdentity === null)
        return { status: 400, body: `Not a SPIFFE identity\n${USAGE}` };
      const explanation = explainConnection(tables, {
        source,
        destination,
        network: settings.network,
        confidence: "live",
        ...(asIdentity === null ? {} : { asIdentity }),
      });
      return { type: "application/json", body: `${JSON.stringify(explanation, null, 2)}\n` };
    },
  };
}

/** A uid, or `namespace/name`. */
function findSource(tables: MeshTables, text: string): Workload | null {
  const byUid = tables.workloadByUid(text);
  if (byUid !== null) return byUid;
  const [namespace, name, ...rest] = text.split("/");
  if (name === undefined || rest.length > 0) return null;
  for (const w of tables.workloads()) if (w.name === name && w.namespace === namespace) return w;
  return null;
}

/** `ip:port`, or a name as the source would write it. */
function findDestination(
  tables: MeshTables,
  text: string,
  source: Workload,
  clusterDomain: string,
): SocketAddr | null {
  const address = tryParseSocketAddr(text);
  if (address !== null) return address;
  const [, host, digits] = /^([a-z0-9*._-]{1,253}):(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (host === undefined || port < 1 || port > 65_535) return null;
  for (const { name } of candidates(host.toLowerCase(), source.namespace, clusterDomain)) {
    const service = tables.findServiceByHostname(name, source.namespace);
    if (service === null) continue;
    const vip = service.vips.find((v) => v.network === source.network)?.ip;
    const ip = vip ?? firstAddress(tables.endpoints(service));
    if (ip !== undefined) return { ip, port };
  }
  return null;
}

function firstAddress(endpoints: ReadonlySet<Workload>): Ip | undefined {
  for (const w of endpoints) if (w.addresses[0] !== undefined) return w.addresses[0];
  return undefined;
}
