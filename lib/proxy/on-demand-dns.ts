// Addresses of destinations the mesh knows by host name only, looked up with the proxy's own resolver.
// Answers are kept for their TTL; callers asking for one name at once share one lookup.
import { LRUCache } from "lru-cache";
import { Resolver } from "node:dns/promises";
import { tryParseIp, type Ip } from "#lib/net/ip.ts";

export interface OnDemandOptions {
  /** A only, when the mesh has no IPv6. */
  readonly ipv6Enabled: boolean;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly resolver?: Pick<Resolver, "resolve4" | "resolve6">;
}

interface Addresses {
  readonly ipv4: readonly Ip[];
  readonly ipv6: readonly Ip[];
  readonly ttlMs: number;
}

const MAX_NAMES = 4_096;
const MIN_TTL_MS = 1_000;
const MAX_TTL_MS = 300_000;
/** A name without addresses is asked for again this soon. */
const NEGATIVE_TTL_MS = 5_000;
const TIMEOUT_MS = 5_000;

export class OnDemandDns {
  readonly #options: OnDemandOptions;
  readonly #resolver: Pick<Resolver, "resolve4" | "resolve6">;
  readonly #known = new LRUCache<string, Addresses>({ max: MAX_NAMES });
  readonly #asking = new Map<string, Promise<Addresses>>();

  constructor(options: OnDemandOptions) {
    this.#options = options;
    this.#resolver = options.resolver ?? new Resolver({ timeout: TIMEOUT_MS, tries: 2 });
  }

  /** A random address of the preferred family, else of the other; null when there is none. Never rejects. */
  async lookup(hostname: string, prefer: "ipv4" | "ipv6"): Promise<Ip | null> {
    const found = this.#known.get(hostname) ?? (await this.#ask(hostname));
    const [first, second] = prefer === "ipv4" ? [found.ipv4, found.ipv6] : [found.ipv6, found.ipv4];
    const from = first.length > 0 ? first : second;
    return from[Math.floor(this.#options.random() * from.length)] ?? null;
  }

  #ask(hostname: string): Promise<Addresses> {
    const asking = this.#asking.get(hostname);
    if (asking !== undefined) return asking;
    const answer = this.#askBoth(hostname).finally(() => this.#asking.delete(hostname));
    this.#asking.set(hostname, answer);
    return answer;
  }

  async #askBoth(hostname: string): Promise<Addresses> {
    const [a, aaaa] = await Promise.allSettled([
      this.#resolver.resolve4(hostname, { ttl: true }),
      this.#options.ipv6Enabled ? this.#resolver.resolve6(hostname, { ttl: true }) : [],
    ]);
    const v4 = a.status === "fulfilled" ? a.value : [];
    const v6 = aaaa.status === "fulfilled" ? aaaa.value : [];
    const ttls = [...v4, ...v6].map((record) => record.ttl * 1_000);
    const found = {
      ipv4: v4.flatMap((record) => tryParseIp(record.address) ?? []),
      ipv6: v6.flatMap((record) => tryParseIp(record.address) ?? []),
      ttlMs:
        ttls.length === 0
          ? NEGATIVE_TTL_MS
          : Math.min(MAX_TTL_MS, Math.max(MIN_TTL_MS, Math.min(...ttls))),
    };
    this.#known.set(hostname, found, { ttl: found.ttlMs });
    return found;
  }
}
