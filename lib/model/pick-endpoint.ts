// Which endpoint of a service gets this connection, on which port, at which address.
// Source: istio workload.proto `LoadBalancing`; istio/ztunnel src/state.rs (load_balance, pick_workload_destination).
import type { Random } from "../base/clock.ts";
import { isIpv6, type Ip } from "../net/ip.ts";
import type { Candidates } from "./service-index.ts";
import { serviceKey, type Scope, type Service } from "./service.ts";
import type { MeshTables } from "./tables.ts";
import type { Workload } from "./workload.ts";

export interface PickRequest {
  readonly service: Service;
  /** The service port that was called; for a waypoint its HBONE port. */
  readonly port: number;
  /** Where the client runs: scopes compare it with the endpoint. */
  readonly source: Workload;
  /** `waypoint`: an endpoint with an application tunnel does not need the port to exist on the service. */
  readonly mode: "standard" | "waypoint";
  readonly random: Random;
}

export type Pick =
  | { readonly kind: "endpoint"; readonly workload: Workload; readonly port: number }
  | {
      readonly kind: "none";
      readonly why:
        | "no-port" // the service does not list the port
        | "no-endpoints" // nothing healthy serves it
        | "unreachable" // endpoints exist, none has an address or maps the port
        | "locality" // STRICT, and no endpoint matches every preference
        | "no-weight" // every endpoint has capacity 0
        | "no-target-port"; // the port leads nowhere on the chosen endpoint
    };

/** From here on, filters and ranking are worth remembering between connections. */
const REMEMBER_FROM = 16;

/** Random among the best-ranked candidates, weighted by capacity. The draw has no memory. */
export function pickEndpoint(tables: MeshTables, request: PickRequest): Pick {
  const { service, port, mode } = request;
  const target = service.ports.get(port)?.targetPort ?? null;
  if (mode === "standard" && target === null) return { kind: "none", why: "no-port" };
  const key = serviceKey(service);
  const endpoints = tables.endpoints(service);
  if (endpoints.size === 0) return { kind: "none", why: "no-endpoints" };
  const candidates =
    endpoints.size < REMEMBER_FROM
      ? findCandidates(endpoints, key, target, request)
      : remembered(tables, endpoints, key, target, request);
  if (candidates.group.length === 0)
    return { kind: "none", why: candidates.reachable ? "locality" : "unreachable" };
  const workload = draw(candidates, request.random);
  if (workload === null) return { kind: "none", why: "no-weight" };
  const at = targetPort(workload, key, port, target);
  return at === 0
    ? { kind: "none", why: "no-target-port" }
    : { kind: "endpoint", workload, port: at };
}

/**
 * How many leading preferences match. When the first one is NETWORK, a mismatch there does not end the count, and a
 * match adds `length - 1`: any endpoint of the same network beats every remote one.
 */
export function localityRank(
  preferences: readonly Scope[],
  source: Workload,
  endpoint: Workload,
): number {
  let rank = 0;
  for (let i = 0; i < preferences.length; i++) {
    const scope = preferences[i];
    if (scope === undefined) break;
    const matches = sameScope(scope, source, endpoint);
    if (i === 0 && scope === "Network") {
      if (matches) rank += preferences.length;
      continue;
    }
    if (!matches) break;
    rank++;
  }
  return rank;
}

export type IpChoice =
  | { readonly kind: "ip"; readonly ip: Ip }
  /** Must be resolved by the proxy's own resolver. */
  | { readonly kind: "hostname"; readonly hostname: string }
  | { readonly kind: "none" };

/**
 * The address to dial: the one that was called if it is the workload's, else one of an allowed family, the caller's
 * family first, else its host name.
 * @param called   the original destination, or the address by which a waypoint is referenced
 * @param service  the service it was chosen through: its families restrict; null: none do
 */
export function chooseIp(w: Workload, called: Ip, service: Service | null): IpChoice {
  let first: Ip | null = null;
  let sameFamily: Ip | null = null;
  const wantV6 = isIpv6(called);
  for (const ip of w.addresses) {
    if (ip === called) return { kind: "ip", ip };
    const v6 = isIpv6(ip);
    if (service?.ipFamilies === (v6 ? "IPv4Only" : "IPv6Only")) continue;
    first ??= ip;
    if (v6 === wantV6) sameFamily ??= ip;
  }
  const ip = sameFamily ?? first;
  if (ip !== null) return { kind: "ip", ip };
  return w.hostname === "" ? { kind: "none" } : { kind: "hostname", hostname: w.hostname };
}

function isRanked(service: Service): boolean {
  const { mode } = service.loadBalancing;
  return mode === "Strict" || mode === "Failover";
}

/** One pass over all endpoints costs 20 to 30 ns each: too much per connection once there are thousands. */
function remembered(
  tables: MeshTables,
  endpoints: ReadonlySet<Workload>,
  key: string,
  target: number | null,
  request: PickRequest,
): Candidates {
  const { service, port, source, mode } = request;
  const caller = `${mode} ${port} ${isRanked(service) ? placeOf(source) : source.network}`;
  const known = tables.candidates(key, caller);
  if (known !== null) return known;
  const found = findCandidates(endpoints, key, target, request);
  tables.rememberCandidates(key, caller, found);
  return found;
}

/** All that scopes compare: the pods of one node that run in one place share their candidates. */
function placeOf(w: Workload): string {
  const { region, zone, subzone } = w.locality;
  return `${w.network}\n${w.node}\n${w.clusterId}\n${region}\n${zone}\n${subzone}`;
}

/** Who may be picked: reachable endpoints of the highest rank. */
function findCandidates(
  endpoints: ReadonlySet<Workload>,
  key: string,
  target: number | null,
  request: PickRequest,
): Candidates {
  const { service, source } = request;
  const { mode, preferences } = service.loadBalancing;
  const ranked = isRanked(service);
  const group: Workload[] = [];
  let groupRank = -1;
  let reachable = false;
  for (const w of endpoints) {
    if (!isCandidate(w, key, target, request)) continue;
    reachable = true;
    const rank = ranked ? localityRank(preferences, source, w) : 0;
    if (rank < groupRank || (mode === "Strict" && !matchesAll(preferences, source, w))) continue;
    if (rank > groupRank) {
      group.length = 0;
      groupRank = rank;
    }
    group.push(w);
  }
  let weight = 0;
  let uniform = true;
  for (const w of group) {
    weight += w.capacity;
    uniform &&= w.capacity === group[0]?.capacity;
  }
  return { group, weight, uniform, reachable };
}

function isCandidate(w: Workload, key: string, target: number | null, r: PickRequest): boolean {
  const hasAddress = w.addresses.length > 0 || w.hostname !== "";
  // Without an address it can only be reached through the gateway of another network.
  if (!hasAddress && (w.network === r.source.network || w.networkGateway === null)) return false;
  if (r.mode === "waypoint") return target !== null || w.applicationTunnel !== null;
  return target !== 0 || w.services.get(key)?.has(r.port) === true;
}

/** The endpoint's own mapping, else the service's numeric port, else what an application tunnel keeps; 0: none. */
function targetPort(w: Workload, key: string, port: number, target: number | null): number {
  const mapped = w.services.get(key)?.get(port) ?? 0;
  if (mapped !== 0) return mapped;
  if (target !== null && target !== 0) return target;
  return w.applicationTunnel?.port == null ? 0 : port;
}

function draw({ group, weight, uniform }: Candidates, random: Random): Workload | null {
  if (weight === 0) return null;
  if (uniform) return group[Math.floor(random() * group.length)] ?? null;
  let at = random() * weight;
  for (const w of group) {
    at -= w.capacity;
    if (at < 0) return w;
  }
  // Rounding can leave `at` at 0 past the last weight.
  return group.findLast((w) => w.capacity > 0) ?? null;
}

function matchesAll(preferences: readonly Scope[], a: Workload, b: Workload): boolean {
  for (const scope of preferences) if (!sameScope(scope, a, b)) return false;
  return true;
}

function sameScope(scope: Scope, a: Workload, b: Workload): boolean {
  switch (scope) {
    case "Region":
      return a.locality.region === b.locality.region;
    case "Zone":
      return a.locality.zone === b.locality.zone;
    case "Subzone":
      return a.locality.subzone === b.locality.subzone;
    case "Node":
      return a.node === b.node;
    case "Cluster":
      return a.clusterId === b.clusterId;
    case "Network":
      return a.network === b.network;
    default:
      return scope satisfies never;
  }
}
