// IP addresses and socket addresses as canonical text: parsed once at the edge, compared with ===.
// IPv4-mapped IPv6 addresses become plain IPv4 everywhere (contracts of HBONE and the Workload API).
import ipaddr from "ipaddr.js";
import type { Brand } from "../base/brand.ts";

/** Canonical text: dotted quad, or RFC 5952 lower-case compressed IPv6 without zone. Made by `parseIp` and `ipFromBytes`. */
export type Ip = Brand<string, "Ip">;

export interface SocketAddr {
  readonly ip: Ip;
  readonly port: number;
}

export class AddressError extends Error {
  override readonly name = "AddressError";
}

/** @throws {AddressError} for anything but one IPv4 or IPv6 address in text form */
export function parseIp(text: string): Ip {
  const ip = tryParseIp(text);
  if (ip === null) throw new AddressError(`Not an IP address: ${JSON.stringify(text)}`);
  return ip;
}

/** Like `parseIp`, with `null` for what is not an address. Four-part decimal IPv4 only; no zones. */
export function tryParseIp(text: string): Ip | null {
  if (isCanonicalIpv4(text)) return text as Ip;
  if (text.includes("%")) return null;
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text).toString() as Ip;
  if (!text.includes(":") || !ipaddr.IPv6.isValid(text)) return null;
  return ipFromBytes(Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray()));
}

/** @param bytes 4 or 16 bytes, network order. @throws {AddressError} for other lengths */
export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip;
  if (bytes.length !== 16)
    throw new AddressError(`An IP address has 4 or 16 bytes, got ${bytes.length}`);
  if (isV4Mapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}` as Ip;
  return new ipaddr.IPv6(Array.from(bytes)).toRFC5952String() as Ip;
}

/** 4 bytes for IPv4, 16 for IPv6, network order. */
export function ipToBytes(ip: Ip): Uint8Array {
  if (!ip.includes(":")) return ipv4Bytes(ip);
  return Uint8Array.from(ipaddr.parse(ip).toByteArray());
}

export function isIpv6(ip: Ip): boolean {
  return ip.includes(":");
}

/** 127.0.0.0/8 or ::1. */
export function isLoopback(ip: Ip): boolean {
  return ip === "::1" || ip.startsWith("127.");
}

/** `ip:port`, or `[ip]:port` for IPv6. */
export function formatSocketAddr(addr: SocketAddr): string {
  return isIpv6(addr.ip) ? `[${addr.ip}]:${addr.port}` : `${addr.ip}:${addr.port}`;
}

/** Reads `ip:port` and `[ip]:port`; `null` for anything else, host names included. */
export function tryParseSocketAddr(text: string): SocketAddr | null {
  const m = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (m === null) return null;
  const port = Number(m[3]);
  const ip = tryParseIp(m[1] ?? m[2] ?? "");
  if (ip === null || port > 65_535 || (m[1] !== undefined && !m[1].includes(":"))) return null;
  return { ip, port };
}

/** Four decimal octets without leading zeros: the common case, decided without the library. */
function isCanonicalIpv4(text: string): boolean {
  let octets = 1;
  let octet = -1;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x2e) {
      if (octet < 0 || ++octets > 4) return false;
      octet = -1;
      continue;
    }
    if (c < 0x30 || c > 0x39 || octet === 0) return false;
    octet = octet < 0 ? c - 0x30 : octet * 10 + c - 0x30;
    if (octet > 255) return false;
  }
  return octets === 4 && octet >= 0;
}

/** @param ip known to be IPv4 */
function ipv4Bytes(ip: Ip): Uint8Array {
  const bytes = new Uint8Array(4);
  let at = 0;
  for (let i = 0; i < ip.length; i++) {
    const c = ip.charCodeAt(i);
    if (c === 0x2e) at++;
    else bytes[at] = (bytes[at] ?? 0) * 10 + c - 0x30;
  }
  return bytes;
}

function isV4Mapped(b: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (b[i] !== 0) return false;
  return b[10] === 0xff && b[11] === 0xff;
}
