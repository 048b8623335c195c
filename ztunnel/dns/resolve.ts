// Which DNS questions the mesh answers itself, and with what: a pure decision over the tables.
// Source: istio/ztunnel src/dns/server.rs (Store), whose answers clients already rely on.
import { isIpv6, type Ip } from "#lib/net/ip.ts";
import type { Service } from "#lib/model/service.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import { CLASS_IN, RECORD_TYPE, type DnsQuery } from "#lib/wire/dns.ts";
import type { DnsAnswer } from "#lib/wire/dns-response.ts";

export interface DnsSettings {
  /** `cluster.local` */
  readonly clusterDomain: string;
  /** Ranks between a canonical service and any other of the same host name. */
  readonly preferredNamespace: string | null;
  readonly ipv6Enabled: boolean;
}

/** Who asks. */
export interface DnsClient {
  readonly namespace: string;
  readonly network: string;
}

export type Resolution =
  /** Not ours: pass it on. */
  | { readonly kind: "forward" }
  /** Ours. Empty for a family the service does not have: never "no such name". */
  | { readonly kind: "answer"; readonly answers: readonly DnsAnswer[] };

const FORWARD: Resolution = { kind: "forward" };
const EMPTY: Resolution = { kind: "answer", answers: [] };
const TTL_SECONDS = 30;
/** More A records than a TCP answer can carry. */
const MAX_ADDRESSES = 4_096;

/** @param random  uniform in [0, 1); decides the order of addresses */
export function resolve(
  tables: MeshTables,
  client: DnsClient,
  query: Pick<DnsQuery, "name" | "type" | "class">,
  settings: DnsSettings,
  random: () => number,
): Resolution {
  const { type } = query;
  if (query.class !== CLASS_IN || (type !== RECORD_TYPE.A && type !== RECORD_TYPE.AAAA))
    return FORWARD;
  const match = findService(tables, client, query.name, settings);
  if (match === null) return FORWARD;
  const { service } = match;
  const wantsV6 = type === RECORD_TYPE.AAAA;
  if (wantsV6 && (!settings.ipv6Enabled || service.ipFamilies === "IPv4Only")) return EMPTY;
  if (!wantsV6 && service.ipFamilies === "IPv6Only") return EMPTY;
  const found = addressesOf(tables, service, client.network, wantsV6);
  if (found.length === 0) return EMPTY;
  const ips = shuffle(found, random);
  const name = match.alias ?? query.name;
  const records = ips.map(
    (ip): DnsAnswer => ({ kind: "address", name, ip, ttlSeconds: TTL_SECONDS }),
  );
  if (match.alias === null) return { kind: "answer", answers: records };
  const alias = { kind: "cname", name: query.name, target: name, ttlSeconds: TTL_SECONDS } as const;
  return { kind: "answer", answers: [alias, ...records] };
}

export interface Candidate {
  readonly name: string;
  /** What the client typed, when a search domain of its resolver had been appended to it. */
  readonly stripped: string | null;
}

/** The names a question may stand for, most literal first, without duplicates. */
export function candidates(name: string, namespace: string, clusterDomain: string): Candidate[] {
  const found = new Map<string, Candidate>();
  const add = (candidate: string, stripped: string | null): void => {
    if (!found.has(candidate)) found.set(candidate, { name: candidate, stripped });
  };
  add(name, null);
  for (const longer of expand(name, namespace, clusterDomain)) add(longer, null);
  for (const domain of searchDomains(namespace, clusterDomain)) {
    if (!name.endsWith(`.${domain}`)) continue;
    const typed = name.slice(0, -domain.length - 1);
    add(typed, typed);
    for (const longer of expand(typed, namespace, clusterDomain)) add(longer, typed);
  }
  return [...found.values()];
}

/** `a.b.c` ⇒ `a.b.c`, `*.b.c`, `*.c`. */
export function* wildcards(name: string): Generator<string> {
  yield name;
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1))
    yield `*${name.slice(dot)}`;
}

/** What kubelets put into pods' resolv.conf; a pod's own file is not consulted. */
function searchDomains(namespace: string, clusterDomain: string): string[] {
  return [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
}

/** The full service names a short one may mean, by its number of labels. */
function expand(name: string, namespace: string, clusterDomain: string): string[] {
  const endsInSvc = name.endsWith(".svc");
  switch (name === "" ? 0 : name.split(".").length) {
    case 1:
      return [`${name}.${namespace}.svc.${clusterDomain}`];
    case 2:
      return [`${name}.svc.${clusterDomain}`, `${name}.${namespace}.svc.${clusterDomain}`];
    case 3:
      return [...(endsInSvc ? [`${name}.${clusterDomain}`] : []), `${name}.svc.${clusterDomain}`];
    case 4:
      return endsInSvc ? [`${name}.${clusterDomain}`] : [];
    default:
      return [];
  }
}

function findService(
  tables: MeshTables,
  client: DnsClient,
  name: string,
  settings: DnsSettings,
): { readonly service: Service; readonly alias: string | null } | null {
  const { clusterDomain, preferredNamespace } = settings;
  for (const candidate of candidates(name, client.namespace, clusterDomain))
    for (const hostname of wildcards(candidate.name)) {
      const service = tables.findServiceByHostname(
        hostname,
        client.namespace,
        preferredNamespace ?? undefined,
      );
      if (service === null || !isServed(service, clusterDomain)) continue;
      const isExact = hostname === candidate.name;
      return { service, alias: isExact ? candidate.stripped : null };
    }
  return null;
}

/** A service without a VIP is known to DNS only if it is a headless one of Kubernetes. */
function isServed(service: Service, clusterDomain: string): boolean {
  return service.vips.length > 0 || service.hostname.endsWith(`.svc.${clusterDomain}`);
}

function addressesOf(tables: MeshTables, service: Service, network: string, v6: boolean): Ip[] {
  if (service.vips.length > 0)
    return service.vips
      .filter((vip) => vip.network === network && isIpv6(vip.ip) === v6)
      .map((vip) => vip.ip);
  const found: Ip[] = [];
  for (const workload of tables.endpoints(service)) {
    if (found.length >= MAX_ADDRESSES) break;
    const ip = workload.addresses.find((address) => isIpv6(address) === v6);
    if (ip !== undefined) found.push(ip);
  }
  return found;
}

/** Fisher and Yates. */
function shuffle<T>(items: readonly T[], random: () => number): T[] {
  const shuffled = [...items];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const [a, b] = [shuffled[i] as T, shuffled[j] as T];
    shuffled[i] = b;
    shuffled[j] = a;
  }
  return shuffled;
}
