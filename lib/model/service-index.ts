// Every service with its endpoints, found by name and by virtual address, and which of several a client means.
// Source: istio/ztunnel src/state/service.rs.
import { cidrContainsBytes, type Cidr } from "../net/cidr.ts";
import { ipToBytes, type Ip } from "../net/ip.ts";
import { serviceKey, type Service } from "./service.ts";
import type { Workload } from "./workload.ts";

/** The endpoints one kind of caller may get: the outcome of filters and ranking, before the draw. */
export interface Candidates {
  readonly group: readonly Workload[];
  /** Sum of the capacities. */
  readonly weight: number;
  /** All capacities are equal, so that a draw is an index. */
  readonly uniform: boolean;
  /** Whether any endpoint could be reached at all, ranking aside. */
  readonly reachable: boolean;
}

interface Entry {
  service: Service;
  /** In the order they came. Unhealthy ones only where the service's health policy allows them. */
  readonly endpoints: Set<Workload>;
  /** Candidates by kind of caller; emptied by every change of the service or its endpoints. */
  readonly candidates: Map<string, Candidates>;
}

/** Kinds of callers remembered per service. A node has few: one per port and place its pods call from. */
const MAX_CALLERS = 16;

/** The namespace a lookup is made from; null sees everything. */
export type ClientNamespace = string | null;

const NONE: ReadonlySet<Workload> = new Set();

export class ServiceIndex {
  readonly #byKey = new Map<string, Entry>();
  readonly #byHostname = new Map<string, Entry[]>();
  readonly #byVip = new Map<string, Map<Ip, Entry[]>>();
  readonly #byCidr = new Map<string, { readonly cidr: Cidr; readonly entry: Entry }[]>();
  /** Endpoints whose service has not come yet. */
  readonly #staged = new Map<string, Set<Workload>>();

  get size(): number {
    return this.#byKey.size;
  }

  *all(): Generator<Service> {
    for (const entry of this.#byKey.values()) yield entry.service;
  }

  *staged(): Generator<readonly [key: string, endpoints: ReadonlySet<Workload>]> {
    yield* this.#staged;
  }

  byKey(key: string): Service | null {
    return this.#byKey.get(key)?.service ?? null;
  }

  endpoints(key: string): ReadonlySet<Workload> {
    return this.#byKey.get(key)?.endpoints ?? NONE;
  }

  /** What `rememberCandidates` kept for this kind of caller, unless something changed since. */
  candidates(key: string, caller: string): Candidates | null {
    return this.#byKey.get(key)?.candidates.get(caller) ?? null;
  }

  rememberCandidates(key: string, caller: string, candidates: Candidates): void {
    const known = this.#byKey.get(key)?.candidates;
    if (known === undefined) return;
    if (known.size >= MAX_CALLERS) known.clear();
    known.set(caller, candidates);
  }

  /** @param preferred  for DNS: a namespace that ranks between `canonical` and the rest */
  byHostname(hostname: string, from: ClientNamespace, preferred?: string): Service | null {
    return best(this.#byHostname.get(hostname), from, preferred);
  }

  /** A single-address VIP wins over every range; ranges rank by namespace, prefix length, `canonical`. */
  byVip(network: string, ip: Ip, from: ClientNamespace): Service | null {
    return best(this.#byVip.get(network)?.get(ip), from) ?? this.#inRange(network, ip, from);
  }

  /** Every service visible to `from` that has exactly this VIP, best order not implied. */
  allByVip(network: string, ip: Ip, from: ClientNamespace): Service[] {
    const entries = this.#byVip.get(network)?.get(ip) ?? [];
    return entries.map((e) => e.service).filter((s) => isVisible(s, from));
  }

  /** Keeps the endpoints the service already had, and takes in the staged ones; both pass its health policy. */
  put(service: Service): void {
    const key = serviceKey(service);
    let entry = this.#byKey.get(key);
    if (entry === undefined) {
      entry = { service, endpoints: new Set(), candidates: new Map() };
      this.#byKey.set(key, entry);
      appendTo(this.#byHostname, service.hostname, entry);
      this.#link(entry);
    } else {
      const before = entry.service;
      const moved = !sameVips(before, service);
      if (moved) this.#unlink(entry);
      entry.service = service;
      if (moved) this.#link(entry);
      for (const w of entry.endpoints) if (!admits(service, w)) entry.endpoints.delete(w);
    }
    entry.candidates.clear();
    for (const w of this.#staged.get(key) ?? NONE) if (admits(service, w)) entry.endpoints.add(w);
    this.#staged.delete(key);
  }

  /** Its endpoints are dropped: when the service returns, its workloads are sent again. */
  remove(key: string): boolean {
    const entry = this.#byKey.get(key);
    if (entry === undefined) return false;
    this.#byKey.delete(key);
    removeFrom(this.#byHostname, entry.service.hostname, entry);
    this.#unlink(entry);
    return true;
  }

  /** Makes `w` an endpoint of every service it names; unknown ones are remembered until they come. */
  addEndpoint(w: Workload): void {
    for (const key of w.services.keys()) {
      const entry = this.#byKey.get(key);
      if (entry !== undefined) {
        if (admits(entry.service, w)) {
          entry.endpoints.add(w);
          entry.candidates.clear();
        }
        continue;
      }
      const staged = this.#staged.get(key);
      if (staged === undefined) this.#staged.set(key, new Set([w]));
      else staged.add(w);
    }
  }

  removeEndpoint(w: Workload): void {
    for (const key of w.services.keys()) {
      const entry = this.#byKey.get(key);
      if (entry?.endpoints.delete(w) === true) entry.candidates.clear();
      const staged = this.#staged.get(key);
      if (staged?.delete(w) === true && staged.size === 0) this.#staged.delete(key);
    }
  }

  #link(entry: Entry): void {
    for (const { network, ip } of entry.service.vips) {
      let vips = this.#byVip.get(network);
      if (vips === undefined) this.#byVip.set(network, (vips = new Map()));
      appendTo(vips, ip, entry);
    }
    for (const { network, cidr } of entry.service.cidrVips) {
      const ranges = this.#byCidr.get(network);
      if (ranges === undefined) this.#byCidr.set(network, [{ cidr, entry }]);
      else ranges.push({ cidr, entry });
    }
  }

  #unlink(entry: Entry): void {
    for (const { network, ip } of entry.service.vips) {
      const vips = this.#byVip.get(network);
      if (vips === undefined) continue;
      removeFrom(vips, ip, entry);
      if (vips.size === 0) this.#byVip.delete(network);
    }
    for (const { network } of entry.service.cidrVips) {
      const left = this.#byCidr.get(network)?.filter((r) => r.entry !== entry) ?? [];
      if (left.length === 0) this.#byCidr.delete(network);
      else this.#byCidr.set(network, left);
    }
  }

  #inRange(network: string, ip: Ip, from: ClientNamespace): Service | null {
    const ranges = this.#byCidr.get(network);
    if (ranges === undefined) return null;
    const bytes = ipToBytes(ip);
    let found: Service | null = null;
    let foundRank = -1;
    for (const { cidr, entry } of ranges) {
      const s = entry.service;
      if (!isVisible(s, from) || !cidrContainsBytes(cidr, bytes)) continue;
      // (same namespace, prefix length up to 128, canonical), as one number
      const rank = (s.namespace === from ? 512 : 0) + cidr.bits * 2 + (s.canonical ? 1 : 0);
      if (rank > foundRank) [found, foundRank] = [s, rank];
    }
    return found;
  }
}

/** Whether the service's health policy lets this endpoint in. Decided when either of them comes, and only then. */
function admits(service: Service, w: Workload): boolean {
  return w.status === "Healthy" || service.loadBalancing.healthPolicy === "AllowAll";
}

function isVisible(service: Service, from: ClientNamespace): boolean {
  return from === null || service.visibility === "Public" || service.namespace === from;
}

/** Same namespace, then `canonical`, then the preferred namespace, then the first that came. */
function best(
  entries: readonly Entry[] | undefined,
  from: ClientNamespace,
  preferred?: string,
): Service | null {
  if (entries === undefined) return null;
  let found: Service | null = null;
  let foundRank = -1;
  for (const { service } of entries) {
    if (!isVisible(service, from)) continue;
    const rank =
      service.namespace === from
        ? 3
        : service.canonical
          ? 2
          : service.namespace === preferred
            ? 1
            : 0;
    if (rank > foundRank) [found, foundRank] = [service, rank];
  }
  return found;
}

function sameVips(a: Service, b: Service): boolean {
  return (
    a.vips.length === b.vips.length &&
    a.cidrVips.length === 0 &&
    b.cidrVips.length === 0 &&
    a.vips.every((v, i) => v.ip === b.vips[i]?.ip && v.network === b.vips[i]?.network)
  );
}

function appendTo<K>(index: Map<K, Entry[]>, key: K, entry: Entry): void {
  const list = index.get(key);
  if (list === undefined) index.set(key, [entry]);
  else if (!list.includes(entry)) list.push(entry);
}

function removeFrom<K>(index: Map<K, Entry[]>, key: K, entry: Entry): void {
  const left = index.get(key)?.filter((e) => e !== entry) ?? [];
  if (left.length === 0) index.delete(key);
  else index.set(key, left);
}
