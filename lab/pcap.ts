// Reading a capture: the pcap file format (draft-ietf-opsawg-pcap) down to TCP and UDP payloads.
import { PORT } from "#lib/net/ports.ts";

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const ETHERNET = 1;
const ETHERTYPE = { ipv4: 0x0800, ipv6: 0x86dd } as const;
const PROTOCOL = { tcp: 6, udp: 17 } as const;

export interface Packet {
  readonly protocol: "tcp" | "udp";
  readonly src: string;
  readonly srcPort: number;
  readonly dst: string;
  readonly dstPort: number;
  /** TCP sequence number of the first payload byte; 0 for UDP. */
  readonly seq: number;
  readonly payload: Buffer;
}

/** All bytes one side of a connection sent, retransmissions dropped. */
export interface Flow {
  readonly protocol: "tcp" | "udp";
  readonly src: string;
  readonly srcPort: number;
  readonly dst: string;
  readonly dstPort: number;
  readonly bytes: Buffer;
}

/** TCP that carried a byte between these addresses: through the mesh's tunnels, and past them. */
export interface Crossed {
  readonly tunnels: readonly Flow[];
  readonly clear: readonly Flow[];
}

export function crossedBetween(flows: readonly Flow[], ips: ReadonlySet<string>): Crossed {
  const ours = flows.filter(
    (f) => f.protocol === "tcp" && f.bytes.length > 0 && ips.has(f.src) && ips.has(f.dst),
  );
  const isTunnel = (f: Flow): boolean => f.srcPort === PORT.hbone || f.dstPort === PORT.hbone;
  return { tunnels: ours.filter(isTunnel), clear: ours.filter((f) => !isTunnel(f)) };
}

/** TCP and UDP packets of a little-endian Ethernet capture; a record cut short at the end is left out. */
export function parsePcap(file: Buffer): Packet[] {
  if (file.length < FILE_HEADER) return [];
  if (file.readUInt32LE(0) !== MAGIC_MICROSECONDS || file.readUInt32LE(20) !== ETHERNET)
    throw new Error("Not a little-endian pcap file of Ethernet frames");
  const packets: Packet[] = [];
  for (let at = FILE_HEADER; at + RECORD_HEADER <= file.length; ) {
    const end = at + RECORD_HEADER + file.readUInt32LE(at + 8);
    if (end > file.length) break;
    const packet = parseFrame(file.subarray(at + RECORD_HEADER, end));
    if (packet !== null) packets.push(packet);
    at = end;
  }
  return packets;
}

/** Groups packets by direction, in the order of their first packet. */
export function flowsOf(packets: readonly Packet[]): Flow[] {
  const byKey = new Map<string, Packet[]>();
  for (const packet of packets) {
    const key = `${packet.protocol} ${packet.src} ${packet.srcPort} ${packet.dst} ${packet.dstPort}`;
    const known = byKey.get(key);
    if (known === undefined) byKey.set(key, [packet]);
    else known.push(packet);
  }
  return [...byKey.values()].flatMap((list) => {
    const [first] = list;
    if (first === undefined) return [];
    const { protocol, src, srcPort, dst, dstPort } = first;
    const bytes = protocol === "tcp" ? reassemble(list) : Buffer.concat(list.map((p) => p.payload));
    return [{ protocol, src, srcPort, dst, dstPort, bytes }];
  });
}

export function pcapHeader(): Buffer {
  const header = Buffer.alloc(FILE_HEADER);
  header.writeUInt32LE(MAGIC_MICROSECONDS, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(ETHERNET, 20);
  return header;
}

export function pcapRecord(frame: Uint8Array, nowMs: number): Buffer {
  const record = Buffer.alloc(RECORD_HEADER + frame.length);
  record.writeUInt32LE(Math.floor(nowMs / 1000), 0);
  record.writeUInt32LE(Math.floor((nowMs % 1000) * 1000), 4);
  record.writeUInt32LE(frame.length, 8);
  record.writeUInt32LE(frame.length, 12);
  record.set(frame, RECORD_HEADER);
  return record;
}

function parseFrame(frame: Buffer): Packet | null {
  if (frame.length < 34) return null;
  const type = frame.readUInt16BE(12);
  if (type === ETHERTYPE.ipv4) {
    const headerLength = ((frame[14] ?? 0) & 15) * 4;
    const end = Math.min(frame.length, 14 + frame.readUInt16BE(16));
    const address = (at: number): string => frame.subarray(at, at + 4).join(".");
    return parseSegment(
      frame[23] ?? 0,
      frame.subarray(14 + headerLength, end),
      address(26),
      address(30),
    );
  }
  if (type === ETHERTYPE.ipv6 && frame.length >= 54) {
    const length = frame.readUInt16BE(18);
    // 0 is a packet longer than 64 KiB (big TCP): the rest of the frame
    const end = length === 0 ? frame.length : Math.min(frame.length, 54 + length);
    return parseSegment(
      frame[20] ?? 0,
      frame.subarray(54, end),
      ipv6At(frame, 22),
      ipv6At(frame, 38),
    );
  }
  return null;
}

function parseSegment(protocol: number, segment: Buffer, src: string, dst: string): Packet | null {
  if (protocol === PROTOCOL.udp && segment.length >= 8)
    return {
      protocol: "udp",
      src,
      dst,
      seq: 0,
      srcPort: segment.readUInt16BE(0),
      dstPort: segment.readUInt16BE(2),
      payload: segment.subarray(8),
    };
  if (protocol !== PROTOCOL.tcp || segment.length < 20) return null;
  return {
    protocol: "tcp",
    src,
    dst,
    seq: segment.readUInt32BE(4),
    srcPort: segment.readUInt16BE(0),
    dstPort: segment.readUInt16BE(2),
    payload: segment.subarray(((segment[12] ?? 0) >> 4) * 4),
  };
}

/** RFC 5952 text. */
function ipv6At(frame: Buffer, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => frame.readUInt16BE(at + 2 * i).toString(16));
  const text = groups.join(":");
  const zeros = [...text.matchAll(/(?:^|(?<=:))0(?::0)+(?=:|$)/g)].map((m) => m[0]);
  const longest = zeros.toSorted((a, b) => b.length - a.length)[0];
  if (longest === undefined) return text;
  const start = text.search(new RegExp(`(?:^|(?<=:))${longest}(?=:|$)`));
  return `${text.slice(0, start).replace(/:$/, "")}::${text.slice(start + longest.length).replace(/^:/, "")}`;
}

/** Orders by sequence number (relative to the first seen) and drops what was seen before. */
function reassemble(packets: readonly Packet[]): Buffer {
  const [first] = packets;
  if (first === undefined) return Buffer.alloc(0);
  const parts = packets
    .filter((p) => p.payload.length > 0)
    .map((p) => ({ offset: (p.seq - first.seq) | 0, payload: p.payload }))
    .toSorted((a, b) => a.offset - b.offset);
  const kept: Buffer[] = [];
  let next = Number.NEGATIVE_INFINITY;
  for (const { offset, payload } of parts) {
    const seen = Math.max(0, next - offset);
    if (seen >= payload.length) continue;
    kept.push(payload.subarray(seen));
    next = offset + payload.length;
  }
  return Buffer.concat(kept);
}
