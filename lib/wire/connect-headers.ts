// The metadata of an HBONE CONNECT as text: authority, baggage, forwarded, traceparent. Pure.
// Everything but the authority is telemetry: unreadable input means "absent", never a refused tunnel.
import type { Ip, SocketAddr } from "../net/ip.ts";
import { formatSocketAddr, tryParseSocketAddr } from "../net/ip.ts";

export type Authority =
  | { readonly kind: "ip"; readonly ip: Ip; readonly port: number }
  | { readonly kind: "host"; readonly host: string; readonly port: number };

/** A DNS name has at most 253 characters; nothing longer can match a service. */
const MAX_HOST_LENGTH = 253;
/** RFC 3986 §3.2.2, reg-name; without brackets, colons and user information. */
const HOST_AND_PORT = /^([\w.~!$&'()*+,;=%-]+):(\d{1,5})$/;

/**
 * Reads a CONNECT authority: an address first, otherwise host and port.
 * @returns null when there is no host, no port, port 0, or a character that no host has
 */
export function parseAuthority(text: string): Authority | null {
  const ipv4Length = canonicalIpv4Length(text);
  if (ipv4Length > 0) {
    const port = parsePort(text, ipv4Length + 1);
    if (port > 0) return { kind: "ip", ip: text.slice(0, ipv4Length) as Ip, port };
  }
  const address = tryParseSocketAddr(text);
  if (address !== null)
    return address.port === 0 ? null : { kind: "ip", ip: address.ip, port: address.port };
  const m = HOST_AND_PORT.exec(text);
  if (m === null) return null;
  const host = m[1] ?? "";
  const port = Number(m[2]);
  if (port === 0 || port > 65_535 || host.length > MAX_HOST_LENGTH) return null;
  return { kind: "host", host, port };
}

/** Names of the workload kinds that `k8s.<kind>.name` knows. */
export type WorkloadKind = "deployment" | "cronjob" | "pod" | "job";

/** Who is at one end of a connection, in the peer's own words. Empty means "not said". */
export interface Baggage {
  readonly clusterId: string;
  readonly namespace: string;
  readonly workloadKind: WorkloadKind;
  readonly workloadName: string;
  /** Canonical service. */
  readonly serviceName: string;
  /** Canonical revision. */
  readonly revision: string;
  readonly region: string;
  readonly zone: string;
}

export const EMPTY_BAGGAGE: Baggage = Object.freeze({
  clusterId: "",
  namespace: "",
  workloadKind: "deployment",
  workloadName: "",
  serviceName: "",
  revision: "",
  region: "",
  zone: "",
});

/** Visible ASCII without the two separators: anything else would change the list, or break the header. */
const MEMBER_VALUE = /^[!-+.-<>-~-]+$/;

/** Made once per workload, not per connection. Members that are empty or cannot be carried are left out. */
export function formatBaggage(baggage: Baggage): string {
  const members: readonly (readonly [key: string, value: string])[] = [
    ["k8s.cluster.name", baggage.clusterId],
    ["k8s.namespace.name", baggage.namespace],
    [`k8s.${baggage.workloadKind}.name`, baggage.workloadName],
    ["service.name", baggage.serviceName],
    ["service.version", baggage.revision],
    ["cloud.region", baggage.region],
    ["cloud.availability_zone", baggage.zone],
  ];
  return members
    .filter(([, value]) => MEMBER_VALUE.test(value))
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/**
 * Reads a baggage list: split on `,`, then on `=`; nothing is trimmed or decoded, unknown keys are skipped.
 * Several header lines are joined with `,` by the caller.
 */
export function parseBaggage(text: string): Baggage {
  const found = { ...EMPTY_BAGGAGE };
  if (!isVisibleAscii(text)) return found;
  for (let start = 0; start < text.length; ) {
    const comma = text.indexOf(",", start);
    const end = comma === -1 ? text.length : comma;
    const equals = text.indexOf("=", start);
    if (equals !== -1 && equals < end) {
      const second = text.indexOf("=", equals + 1);
      const valueEnd = second === -1 || second > end ? end : second;
      setMember(found, text.slice(start, equals), text.slice(equals + 1, valueEnd));
    }
    start = end + 1;
  }
  return found;
}

/** `for="<source>"`, and the service the client called when there was one. IPv6 sources are bracketed. */
export function formatForwarded(source: SocketAddr, serviceHost: string | null): string {
  const from = `for="${formatSocketAddr(source)}"`;
  return serviceHost === null ? from : `${from};host=${serviceHost}`;
}

/** The called service's host name out of the first `forwarded` line; null when it says none. */
export function parseForwardedHost(text: string): string | null {
  if (!text.includes("host=") || !isVisibleAscii(text)) return null;
  for (const part of text.split(";")) {
    if (!part.startsWith("host=")) continue;
    const value = part.slice("host=".length);
    const isQuoted = value.length >= 2 && value.startsWith('"') && value.endsWith('"');
    const host = isQuoted ? value.slice(1, -1) : value;
    return host === "" ? null : host;
  }
  return null;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function setMember(into: Writable<Baggage>, key: string, value: string): void {
  switch (key) {
    case "k8s.cluster.name":
      into.clusterId = value;
      break;
    case "k8s.namespace.name":
      into.namespace = value;
      break;
    case "k8s.deployment.name":
      setWorkload(into, "deployment", value);
      break;
    case "k8s.cronjob.name":
      setWorkload(into, "cronjob", value);
      break;
    case "k8s.pod.name":
      setWorkload(into, "pod", value);
      break;
    case "k8s.job.name":
      setWorkload(into, "job", value);
      break;
    case "service.name":
      into.serviceName = value;
      break;
    case "service.version":
      into.revision = value;
      break;
    case "cloud.region":
      into.region = value;
      break;
    case "cloud.availability_zone":
      into.zone = value;
      break;
    default: // not ours
  }
}

function setWorkload(into: Writable<Baggage>, kind: WorkloadKind, name: string): void {
  into.workloadKind = kind;
  into.workloadName = name;
}

/** 0x20 to 0x7e and tab, which is what an HTTP header may carry as text. */
function isVisibleAscii(text: string): boolean {
  return /^[\t -~]*$/.test(text);
}

/**
 * Length of the dotted quad before the colon, 0 when there is none in canonical form.
 * The common case of `parseAuthority`, about ten times cheaper than the general parser.
 */
function canonicalIpv4Length(text: string): number {
  let octets = 0;
  let digits = 0;
  let octet = 0;
  for (let i = 0; i < text.length && i < 16; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x30 && c <= 0x39) {
      if (digits > 0 && octet === 0) return 0; // leading zero
      octet = octet * 10 + c - 0x30;
      digits++;
      if (octet > 255) return 0;
      continue;
    }
    if (digits === 0) return 0;
    octets++;
    if (c === 0x3a) return octets === 4 ? i : 0;
    if (c !== 0x2e) return 0;
    digits = 0;
    octet = 0;
  }
  return 0;
}

/** One to five digits up to the end; -1 for anything else. */
function parsePort(text: string, start: number): number {
  const digits = text.length - start;
  if (digits < 1 || digits > 5) return -1;
  let port = 0;
  for (let i = start; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x30 || c > 0x39) return -1;
    port = port * 10 + c - 0x30;
  }
  return port <= 65_535 ? port : -1;
}
