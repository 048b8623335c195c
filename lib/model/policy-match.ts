// One question to policy, and whether one Match holds for it. Pure comparison; the order of decisions is in rbac.ts.
// Source: istio authorization.proto; semantics of istio/ztunnel src/rbac.rs.
import { cidrContainsBytes, type Cidr } from "../net/cidr.ts";
import { ipToBytes, type Ip } from "../net/ip.ts";
import { principalOf, spiffeParts, type SpiffeId } from "../net/spiffe.ts";
import type { Match, ServiceAccountMatch, StringMatch } from "./authorization.ts";

/** A connection as its destination sees it. */
export interface PolicyConn {
  /** TCP peer of the tunnel or of the plaintext connection; never a forwarded address. */
  readonly sourceIp: Ip;
  /** From the peer's certificate; null for plaintext. */
  readonly identity: SpiffeId | null;
  /** The workload's own address and the application's port, after every mapping. */
  readonly destinationIp: Ip;
  readonly destinationPort: number;
}

/** What matchers compare with, taken apart once per decision. Address bytes are made when first needed. */
export class Question {
  readonly conn: PolicyConn;
  /** null without an identity: then no principal or service-account matcher can hit. */
  readonly principal: string | null;
  /** "" without an identity. */
  readonly namespace: string;
  readonly serviceAccount: string;
  #source: Uint8Array | null = null;
  #destination: Uint8Array | null = null;

  constructor(conn: PolicyConn) {
    this.conn = conn;
    const parts = conn.identity === null ? null : spiffeParts(conn.identity);
    this.principal = conn.identity === null ? null : principalOf(conn.identity);
    this.namespace = parts?.namespace ?? "";
    this.serviceAccount = parts?.serviceAccount ?? "";
  }

  get source(): Uint8Array {
    return (this.#source ??= ipToBytes(this.conn.sourceIp));
  }

  get destination(): Uint8Array {
    return (this.#destination ??= ipToBytes(this.conn.destinationIp));
  }
}

/**
 * All kinds must hold: no positive entries or one that hits, and no negative entry that hits.
 * A match without any entry never matches.
 */
export function matchHolds(m: Match, q: Question): boolean {
  return firstFailingField(m, q) === null;
}

/** The first kind of `m` that does not hold, `"empty"` for a match without entries, null when all hold. */
export function firstFailingField(m: Match, q: Question): keyof Match | "empty" | null {
  let some = false;
  if (m.namespaces.length > 0) {
    if (!anyText(m.namespaces, q.namespace)) return "namespaces";
    some = true;
  }
  if (m.notNamespaces.length > 0) {
    if (anyText(m.notNamespaces, q.namespace)) return "notNamespaces";
    some = true;
  }
  if (m.serviceAccounts.length > 0) {
    if (!anyAccount(m.serviceAccounts, q)) return "serviceAccounts";
    some = true;
  }
  if (m.notServiceAccounts.length > 0) {
    if (anyAccount(m.notServiceAccounts, q)) return "notServiceAccounts";
    some = true;
  }
  if (m.principals.length > 0) {
    if (q.principal === null || !anyText(m.principals, q.principal)) return "principals";
    some = true;
  }
  if (m.notPrincipals.length > 0) {
    if (q.principal !== null && anyText(m.notPrincipals, q.principal)) return "notPrincipals";
    some = true;
  }
  if (m.sourceIps.length > 0) {
    if (!anyRange(m.sourceIps, q.source)) return "sourceIps";
    some = true;
  }
  if (m.notSourceIps.length > 0) {
    if (anyRange(m.notSourceIps, q.source)) return "notSourceIps";
    some = true;
  }
  if (m.destinationIps.length > 0) {
    if (!anyRange(m.destinationIps, q.destination)) return "destinationIps";
    some = true;
  }
  if (m.notDestinationIps.length > 0) {
    if (anyRange(m.notDestinationIps, q.destination)) return "notDestinationIps";
    some = true;
  }
  if (m.destinationPorts.length > 0) {
    if (!m.destinationPorts.includes(q.conn.destinationPort)) return "destinationPorts";
    some = true;
  }
  if (m.notDestinationPorts.length > 0) {
    if (m.notDestinationPorts.includes(q.conn.destinationPort)) return "notDestinationPorts";
    some = true;
  }
  return some ? null : "empty";
}

function anyText(list: readonly StringMatch[], text: string): boolean {
  for (const m of list) if (textHits(m, text)) return true;
  return false;
}

/** Case-sensitive. Presence means non-empty. */
function textHits(m: StringMatch, text: string): boolean {
  switch (m.kind) {
    case "exact":
      return text === m.value;
    case "prefix":
      return text.startsWith(m.value);
    case "suffix":
      return text.endsWith(m.value);
    case "presence":
      return text !== "";
    default:
      return m satisfies never;
  }
}

/** Namespace and account, whatever the trust domain. */
function anyAccount(list: readonly ServiceAccountMatch[], q: Question): boolean {
  if (q.principal === null) return false;
  for (const m of list)
    if (m.namespace === q.namespace && m.serviceAccount === q.serviceAccount) return true;
  return false;
}

function anyRange(list: readonly Cidr[], bytes: Uint8Array): boolean {
  for (const cidr of list) if (cidrContainsBytes(cidr, bytes)) return true;
  return false;
}
