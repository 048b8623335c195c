// From "this service has a waypoint" to "dial this address and expect these identities".
// Source: istio/ztunnel src/state.rs (fetch_waypoint); HBONE contract of weighted waypoints.
import type { Random } from "../base/clock.ts";
import type { Ip } from "../net/ip.ts";
import { tryParseSpiffeId, type SpiffeId } from "../net/spiffe.ts";
import { chooseIp, pickEndpoint, type IpChoice } from "./pick-endpoint.ts";
import type { Service } from "./service.ts";
import type { MeshTables } from "./tables.ts";
import { identityOf, type GatewayAddress, type Workload } from "./workload.ts";

export interface GatewayHop {
  readonly workload: Workload;
  /** The waypoint's service; null when the reference names a workload. */
  readonly service: Service | null;
  readonly port: number;
  readonly at: IpChoice;
}

/** A service's waypoint for one connection: one of the weighted set, else the primary; null: none. */
export function drawWaypoint(service: Service, random: Random): GatewayAddress | null {
  let total = 0;
  for (const w of service.weightedWaypoints) total += w.weight;
  if (total === 0) return service.waypoint;
  let at = random() * total;
  let last: GatewayAddress | null = service.waypoint;
  for (const w of service.weightedWaypoints) {
    if (w.weight === 0) continue;
    last = w.destination;
    at -= w.weight;
    if (at < 0) break;
  }
  return last;
}

export type GatewayResult =
  | { readonly kind: "hop"; readonly hop: GatewayHop }
  /** `why` completes "waypoint x …". */
  | { readonly kind: "failed"; readonly why: string };

/**
 * @param called  the application's original destination: decides the address family when the reference is a host name
 */
export function resolveHop(
  tables: MeshTables,
  ref: GatewayAddress,
  from: { readonly source: Workload; readonly called: Ip; readonly random: Random },
): GatewayResult {
  const { source, random } = from;
  const found = tables.resolveGateway(ref, source.namespace);
  if (found === null) return { kind: "failed", why: "is not known to this node" };
  const called = ref.kind === "address" ? ref.ip : from.called;
  if (found.kind === "workload") {
    const { workload } = found;
    const at = chooseIp(workload, called, null);
    return { kind: "hop", hop: { workload, service: null, port: ref.hbonePort, at } };
  }
  const { service } = found;
  const pick = pickEndpoint(tables, {
    service,
    port: ref.hbonePort,
    source,
    mode: "waypoint",
    random,
  });
  if (pick.kind === "none")
    return {
      kind: "failed",
      why: pick.why === "no-endpoints" ? "has no healthy pod" : `cannot be chosen (${pick.why})`,
    };
  const { workload, port } = pick;
  return { kind: "hop", hop: { workload, service, port, at: chooseIp(workload, called, service) } };
}

/** Whether `w` is one of the workloads behind a waypoint reference. */
export function isBehind(
  tables: MeshTables,
  ref: GatewayAddress,
  from: string | null,
  test: (w: Workload) => boolean,
): boolean {
  const found = tables.resolveGateway(ref, from);
  if (found === null) return false;
  if (found.kind === "workload") return test(found.workload);
  for (const w of tables.endpoints(found.service)) if (test(w)) return true;
  return false;
}

/** What the peer's certificate may say: the workload's identity, then the service's extra names that are identities. */
export function expectedIdentities(w: Workload, service: Service | null): readonly SpiffeId[] {
  const own = identityOf(w);
  if (service === null || service.subjectAltNames.length === 0) return [own];
  const identities = new Set([own]);
  for (const name of service.subjectAltNames) {
    const id = tryParseSpiffeId(name);
    if (id !== null) identities.add(id);
  }
  return [...identities];
}

export function formatGateway(ref: GatewayAddress): string {
  return ref.kind === "hostname" ? `${ref.namespace}/${ref.hostname}` : `${ref.network}/${ref.ip}`;
}
