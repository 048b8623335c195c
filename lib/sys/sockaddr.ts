// struct sockaddr_in and sockaddr_in6 ⇄ SocketAddr.
//   in:  family u16 · port u16 BE · addr 4 · zero 8
//   in6: family u16 · port u16 BE · flowinfo u32 · addr 16 · scope u32
import { ipFromBytes, ipToBytes, isIpv6, type Ip, type SocketAddr } from "../net/ip.ts";
import { nativeBuffer } from "./memory.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;
const SOCKADDR_MAX = 28;

/** One sockaddr of this thread, overwritten by the next use. */
const scratch = nativeBuffer(SOCKADDR_MAX + 4);
export const scratchAddress: number = scratch.address;
/** The socklen_t that follows the sockaddr in the scratch memory. */
export const scratchLengthAddress: number = scratch.address + SOCKADDR_MAX;

export function familyOf(ip: Ip): typeof AF_INET | typeof AF_INET6 {
  return isIpv6(ip) ? AF_INET6 : AF_INET;
}

/** Writes the address into the scratch memory and returns its length in bytes. */
export function encodeSockaddr(addr: SocketAddr, family: number = familyOf(addr.ip)): number {
  const b = scratch.bytes;
  b.writeUInt16LE(family, 0);
  b.writeUInt16BE(addr.port, 2);
  if (family === AF_INET) {
    writeIpv4(addr.ip, b, 4);
    for (let i = 8; i < 16; i++) b[i] = 0;
    return 16;
  }
  b.fill(0, 4, 28);
  if (isIpv6(addr.ip)) b.set(ipToBytes(addr.ip), 8);
  else {
    b[18] = 0xff; // ::ffff:a.b.c.d, for a dual-stack socket
    b[19] = 0xff;
    writeIpv4(addr.ip, b, 20);
  }
  return 28;
}

/** Sets the length field before a call that fills the scratch memory. */
export function armScratch(): void {
  scratch.bytes.writeUInt32LE(SOCKADDR_MAX, SOCKADDR_MAX);
}

/** Reads what the kernel left in the scratch memory; IPv4-mapped addresses become IPv4. */
export function decodeSockaddr(): SocketAddr {
  const b = scratch.bytes;
  const port = ((b[2] ?? 0) << 8) | (b[3] ?? 0);
  if (b[0] === AF_INET) return { ip: ipv4At(b, 4), port };
  // ::ffff:0:0/96: ten zero bytes, then two of ones
  const isMapped =
    b[18] === 0xff && b[19] === 0xff && b.readDoubleLE(8) === 0 && b[16] === 0 && b[17] === 0;
  return { ip: isMapped ? ipv4At(b, 20) : ipFromBytes(b.subarray(8, 24)), port };
}

/** Addresses seen of late: the same peers come again and again, and one string for each compares fastest. */
const seen = new Map<number, Ip>();
const MAX_SEEN = 4_096;

function ipv4At(b: Buffer, o: number): Ip {
  const key = b.readInt32LE(o);
  let ip = seen.get(key);
  if (ip === undefined) {
    if (seen.size >= MAX_SEEN) seen.clear();
    ip = `${b[o]}.${b[o + 1]}.${b[o + 2]}.${b[o + 3]}` as Ip;
    seen.set(key, ip);
  }
  return ip;
}

function writeIpv4(ip: Ip, b: Buffer, offset: number): void {
  let value = 0;
  let o = offset;
  for (let i = 0; i < ip.length; i++) {
    const c = ip.charCodeAt(i);
    if (c === 46) {
      b[o++] = value;
      value = 0;
    } else value = value * 10 + (c - 48);
  }
  b[o] = value;
}
