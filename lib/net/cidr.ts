// Address ranges, held so that a match is a few integer operations.
import { AddressError, ipFromBytes, ipToBytes, parseIp, type Ip } from "./ip.ts";

/** A range: the network's bytes (host bits zero) and the prefix length. */
export interface Cidr {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** Reads `address/length` or a single address. @throws {AddressError} */
export function parseCidr(text: string): Cidr {
  const slash = text.indexOf("/");
  if (slash < 0) return cidrFromIp(parseIp(text));
  const length = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(length))
    throw new AddressError(`Not a prefix length: ${JSON.stringify(text)}`);
  return cidrFromBytes(ipToBytes(parseIp(text.slice(0, slash))), Number(length));
}

/** A single address as a range of one. */
export function cidrFromIp(ip: Ip): Cidr {
  const bytes = ipToBytes(ip);
  return { bytes, bits: bytes.length * 8 };
}

/** @throws {AddressError} when `bits` exceeds the family's length. Host bits are cleared. */
export function cidrFromBytes(address: Uint8Array, bits: number): Cidr {
  if (address.length !== 4 && address.length !== 16)
    throw new AddressError(`An IP address has 4 or 16 bytes, got ${address.length}`);
  if (bits > address.length * 8)
    throw new AddressError(`Prefix length ${bits} exceeds ${address.length * 8}`);
  const bytes = Uint8Array.from(address);
  for (let i = 0; i < bytes.length; i++) {
    const keep = Math.min(8, Math.max(0, bits - i * 8));
    bytes[i] = (bytes[i] ?? 0) & (0xff << (8 - keep)) & 0xff;
  }
  return { bytes, bits };
}

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  return cidrContainsBytes(cidr, ipToBytes(ip));
}

/** Families never match each other. */
export function cidrContainsBytes(cidr: Cidr, bytes: Uint8Array): boolean {
  if (bytes.length !== cidr.bytes.length) return false;
  const whole = cidr.bits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== cidr.bytes[i]) return false;
  const rest = cidr.bits & 7;
  if (rest === 0) return true;
  const mask = (0xff << (8 - rest)) & 0xff;
  return ((bytes[whole] ?? 0) & mask) === cidr.bytes[whole];
}

export function formatCidr(cidr: Cidr): string {
  return `${ipFromBytes(cidr.bytes)}/${cidr.bits}`;
}
