// Answers of the DNS proxy to what it owns: A, AAAA and CNAME records, EDNS echoed, cut to what fits.
import type { Ip } from "../net/ip.ts";
import { ipToBytes } from "../net/ip.ts";
import { writeName } from "./dns-name.ts";
import type { DnsFormatError, DnsQuery, Rcode } from "./dns.ts";
import { CLASS_IN, DNS_FLAG, DNS_HEADER_BYTES, MIN_UDP_BYTES, RCODE, RECORD_TYPE } from "./dns.ts";

/** `name` and `target` as text: lower case, no trailing dot. */
export type DnsAnswer =
  | {
      readonly kind: "address";
      readonly name: string;
      /** Decides between A and AAAA. */
      readonly ip: Ip;
      readonly ttlSeconds: number;
    }
  | {
      readonly kind: "cname";
      readonly name: string;
      readonly target: string;
      readonly ttlSeconds: number;
    };

export interface DnsReply {
  readonly rcode: Rcode;
  readonly authoritative: boolean;
  /** In order; a CNAME goes before the records it leads to. */
  readonly answers: readonly DnsAnswer[];
}

/** Root owner, type, class, TTL, length. */
const OPT_BYTES = 11;
/** A pointer, the fixed fields, and the largest data: a name. */
const MAX_RECORD_BYTES = 255 + 10 + 255;
/** A compression pointer reaches 14 bits of offset (RFC 1035 §4.1.4). */
const MAX_POINTER = 0x3fff;
const COMPRESSED = 0xc000;

/**
 * Encodes the answer to `query`, recursion available as the proxy forwards what it does not know.
 * @param maxBytes `udpLimit(query)` over UDP, 65,535 over TCP; records that do not fit are left out and TC is set
 * @throws {DnsNameError} when one of our own names has no wire form
 */
export function encodeResponse(query: DnsQuery, reply: DnsReply, maxBytes: number): Uint8Array {
  const optBytes = query.edns === null ? 0 : OPT_BYTES;
  const limit = maxBytes - optBytes;
  const start = DNS_HEADER_BYTES + query.question.length;
  // One record may be written past the limit before it is dropped.
  const room = Math.min(reply.answers.length * MAX_RECORD_BYTES, maxBytes + MAX_RECORD_BYTES);
  const out = new Uint8Array(start + room + OPT_BYTES);
  out.set(query.question, DNS_HEADER_BYTES);
  let at = start;
  const offsets = new Map<string, number>([[query.name, DNS_HEADER_BYTES]]);
  let answered = 0;
  for (const answer of reply.answers) {
    const next = writeAnswer(out, at, answer, offsets);
    if (next > limit) break;
    at = next;
    answered++;
  }
  if (query.edns !== null) at = writeOpt(out, at, query.edns, reply.rcode);
  writeUint16(out, 0, query.id);
  writeUint16(
    out,
    2,
    DNS_FLAG.RESPONSE |
      DNS_FLAG.RECURSION_AVAILABLE |
      (reply.authoritative ? DNS_FLAG.AUTHORITATIVE : 0) |
      (answered < reply.answers.length ? DNS_FLAG.TRUNCATED : 0) |
      (query.recursionDesired ? DNS_FLAG.RECURSION_DESIRED : 0) |
      (query.checkingDisabled ? DNS_FLAG.CHECKING_DISABLED : 0) |
      (reply.rcode & 0x0f),
  );
  writeUint16(out, 4, 1);
  writeUint16(out, 6, answered);
  writeUint16(out, 10, query.edns === null ? 0 : 1);
  return out.subarray(0, at);
}

/** What to tell the sender of an unreadable message; null when it did not even have an id. */
export function encodeFormatError(error: DnsFormatError): Uint8Array | null {
  if (error.id === null) return null;
  const hasOpt = error.rcode === RCODE.BADVERS;
  const out = new Uint8Array(DNS_HEADER_BYTES + (hasOpt ? OPT_BYTES : 0));
  writeUint16(out, 0, error.id);
  writeUint16(
    out,
    2,
    DNS_FLAG.RESPONSE |
      DNS_FLAG.RECURSION_AVAILABLE |
      error.opcodeBits |
      (error.recursionDesired ? DNS_FLAG.RECURSION_DESIRED : 0) |
      (error.rcode & 0x0f),
  );
  if (hasOpt) {
    writeUint16(out, 10, 1);
    writeOpt(out, DNS_HEADER_BYTES, { payloadBytes: 0, dnssecOk: false }, error.rcode);
  }
  return out;
}

function writeAnswer(
  out: Uint8Array,
  offset: number,
  answer: DnsAnswer,
  offsets: Map<string, number>,
): number {
  let at = writeOwner(out, offset, answer.name, offsets);
  const data = answer.kind === "address" ? ipToBytes(answer.ip) : null;
  const addressType = data?.length === 16 ? RECORD_TYPE.AAAA : RECORD_TYPE.A;
  at = writeUint16(out, at, data === null ? RECORD_TYPE.CNAME : addressType);
  at = writeUint16(out, at, CLASS_IN);
  at = writeUint16(out, at, answer.ttlSeconds >>> 16);
  at = writeUint16(out, at, answer.ttlSeconds);
  const dataStart = at + 2;
  if (data !== null) {
    out.set(data, dataStart);
    at = dataStart + data.length;
  } else at = writeOwner(out, dataStart, answer.kind === "cname" ? answer.target : "", offsets);
  writeUint16(out, dataStart - 2, at - dataStart);
  return at;
}

/** A pointer to where this name already stands, or the name itself, remembered for the next. */
function writeOwner(
  out: Uint8Array,
  offset: number,
  name: string,
  offsets: Map<string, number>,
): number {
  const earlier = offsets.get(name);
  if (earlier !== undefined) return writeUint16(out, offset, COMPRESSED | earlier);
  if (offset <= MAX_POINTER) offsets.set(name, offset);
  return writeName(out, offset, name);
}

/** RFC 6891 §6.1.3: the class is our payload size, the TTL is extended rcode, version and flags. */
function writeOpt(
  out: Uint8Array,
  offset: number,
  edns: { readonly payloadBytes: number; readonly dnssecOk: boolean },
  rcode: number,
): number {
  let at = offset;
  out[at++] = 0;
  at = writeUint16(out, at, RECORD_TYPE.OPT);
  at = writeUint16(out, at, Math.max(MIN_UDP_BYTES, edns.payloadBytes));
  out[at++] = rcode >>> 4;
  out[at++] = 0;
  at = writeUint16(out, at, edns.dnssecOk ? 0x8000 : 0);
  return writeUint16(out, at, 0);
}

function writeUint16(out: Uint8Array, offset: number, value: number): number {
  out[offset] = value >>> 8;
  out[offset + 1] = value;
  return offset + 2;
}
