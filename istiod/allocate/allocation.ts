// Which ServiceEntry gets which address: a pure decision over all of them, the same again when asked
// again. Source: istio pilot/pkg/controllers/ipallocate.
import type { Cidr } from "#lib/net/cidr.ts";
import { type Ip, isIpv6 } from "#lib/net/ip.ts";
import { olderFirst, type ServiceEntry } from "../translate/objects.ts";
import { AddressPool } from "./address-pool.ts";

/** One entry of `status.addresses`. */
export interface Assigned {
  readonly host: string;
  readonly ip: Ip;
}

export interface Decision {
  /** Entries whose `status.addresses` is to become this; empty: none. */
  readonly wanted: ReadonlyMap<string, readonly Assigned[]>;
  /** `namespace/name host` that got no address of some family: the pool is empty. */
  readonly unserved: readonly string[];
}

const OPT_OUT = "networking.istio.io/enable-autoallocate-ip";

export class Allocation {
  readonly #v4: AddressPool;
  readonly #v6: AddressPool;
  /** What was decided last, by entry: stands until its status shows it, however late that is. */
  #decided: ReadonlyMap<string, readonly Assigned[]> = new Map();

  constructor(prefixes: { readonly v4: Cidr; readonly v6: Cidr }) {
    this.#v4 = new AddressPool(prefixes.v4);
    this.#v6 = new AddressPool(prefixes.v6);
  }

  /** The addresses this entry has by the last decision; `undefined` when it is not to have any. */
  decided(key: string): readonly Assigned[] | undefined {
    return this.#decided.get(key);
  }

  /**
   * An assigned address stays as long as no spec names it and no older entry has it; a host without
   * one of a family gets the next free one. What a deleted entry had is not given out again before a
   * restart, or until nothing else is left.
   * @param entries all there are: an address anywhere is in use
   * @param isOurs  of the others nothing is written, but what they have counts
   */
  decide(entries: Iterable<ServiceEntry>, isOurs: (entry: ServiceEntry) => boolean): Decision {
    const sorted = [...entries].sort(olderFirst);
    const given = sorted.flatMap((entry) => entry.addresses ?? []);
    for (const pool of [this.#v4, this.#v6]) pool.reserve(given);
    for (const entry of sorted)
      if (!hostsOf(entry)) for (const { ip } of entry.allocated) this.#pool(ip).free(ip);
    const taken = new Set<Ip>();
    const kept = sorted.map((entry) => ({ entry, assigned: this.#keep(entry, taken) }));
    const unserved: string[] = [];
    const decided = new Map<string, readonly Assigned[]>();
    const wanted = new Map<string, readonly Assigned[]>();
    for (const { entry, assigned } of kept) {
      if (!isOurs(entry)) continue;
      const hosts = hostsOf(entry) ?? [];
      const complete = hosts.flatMap((host) =>
        this.#complete(entry, host, assigned, taken, unserved),
      );
      if (hosts.length > 0) decided.set(entry.key, complete);
      if (!sameAssigned(complete, entry.allocated)) wanted.set(entry.key, complete);
    }
    this.#decided = decided;
    return { wanted, unserved };
  }

  #keep(entry: ServiceEntry, taken: Set<Ip>): readonly Assigned[] {
    const kept: Assigned[] = [];
    const claim = ({ host, ip }: Assigned): void => {
      if (taken.has(ip) || this.#pool(ip).isReserved(ip)) return;
      taken.add(ip);
      this.#pool(ip).use(ip);
      kept.push({ host, ip });
    };
    for (const host of hostsOf(entry) ?? []) {
      const shown = entry.allocated.filter((a) => a.host === host);
      for (const one of shown) claim(one);
      for (const one of this.#decided.get(entry.key) ?? [])
        if (one.host === host && !shown.some((s) => isIpv6(s.ip) === isIpv6(one.ip))) claim(one);
    }
    return kept;
  }

  /** IPv4 first, as Istio writes them. */
  #complete(
    entry: ServiceEntry,
    host: string,
    assigned: readonly Assigned[],
    taken: Set<Ip>,
    unserved: string[],
  ): Assigned[] {
    const result: Assigned[] = [];
    for (const pool of [this.#v4, this.#v6]) {
      const own = assigned.filter((a) => a.host === host && this.#pool(a.ip) === pool);
      const ip = own.length > 0 ? null : this.#take(pool, taken);
      if (own.length === 0 && ip === null) unserved.push(`${entry.key} ${host}`);
      result.push(...own, ...(ip === null ? [] : [{ host, ip }]));
    }
    return result;
  }

  #take(pool: AddressPool, taken: Set<Ip>): Ip | null {
    let ip = pool.take();
    if (ip === null) {
      pool.keepOnly(taken);
      ip = pool.take();
    }
    if (ip !== null) taken.add(ip);
    return ip;
  }

  #pool(ip: Ip): AddressPool {
    return isIpv6(ip) ? this.#v6 : this.#v4;
  }
}

/** The hosts that are to have addresses of this entry; `null` when it is not eligible. */
function hostsOf({ resolution, addresses, hosts, labels }: ServiceEntry): readonly string[] | null {
  const isOut = labels[OPT_OUT]?.toLowerCase() === "false";
  if (resolution === "NONE" || addresses === null || addresses.length > 0 || isOut) return null;
  const usable = hosts.filter((h) => !h.startsWith("*") || resolution === "DYNAMIC_DNS");
  return usable.length === 0 ? null : [...new Set(usable)];
}

/** In any order: the order of a status written by another hand is left alone. */
export function sameAssigned(a: readonly Assigned[], b: readonly Assigned[]): boolean {
  const names = new Set(b.map(({ host, ip }) => `${host} ${ip}`));
  return a.length === b.length && a.every(({ host, ip }) => names.has(`${host} ${ip}`));
}
