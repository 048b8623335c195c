// DNS queries as a proxy needs them (RFC 1035, RFC 6891): enough to answer the names it owns, and to know
// that it may pass the rest on byte for byte. Bad input is a value, since anything may arrive on port 53.
import { readName } from "./dns-name.ts";

/** RFC 1035 §4.1.1; BADVERS is RFC 6891 §9 and needs EDNS. */
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

export const RECORD_TYPE = { A: 1, CNAME: 5, AAAA: 28, OPT: 41 } as const;
export const CLASS_IN = 1;

export const DNS_HEADER_BYTES = 12;
/** What UDP carries without EDNS (RFC 1035 §4.2.1). */
export const MIN_UDP_BYTES = 512;
/** What we send at most, whatever the client offers (RFC 6891 §6.2.5). */
const MAX_UDP_BYTES = 4096;

/** Bits of the second header word. */
export const DNS_FLAG = {
  RESPONSE: 0x8000,
  AUTHORITATIVE: 0x0400,
  TRUNCATED: 0x0200,
  RECURSION_DESIRED: 0x0100,
  RECURSION_AVAILABLE: 0x0080,
  CHECKING_DISABLED: 0x0010,
} as const;
const OPCODE_MASK = 0x7800;

export interface Edns {
  /** What the client can take over UDP, as it said. */
  readonly payloadBytes: number;
  readonly dnssecOk: boolean;
}

export interface DnsQuery {
  readonly kind: "query";
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly checkingDisabled: boolean;
  /** Lower case, no trailing dot; the root is "". Odd octets are escaped and so never match a host name. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question as it came, letter case included: it has to be repeated exactly. A copy. */
  readonly question: Uint8Array;
  /** Null without an OPT record. */
  readonly edns: Edns | null;
}

/** Not a query that can be answered or passed on. */
export interface DnsFormatError {
  readonly kind: "format-error";
  readonly reason: string;
  /** Null when not even a header arrived: then there is nobody to answer. */
  readonly id: number | null;
  readonly recursionDesired: boolean;
  /** Opcode bits as received, to be repeated. */
  readonly opcodeBits: number;
  readonly rcode: typeof RCODE.FORMERR | typeof RCODE.NOTIMP | typeof RCODE.BADVERS;
}

/**
 * Reads one query message: one question, at most one OPT; other records are skipped over, trailing octets
 * ignored.
 * @param bytes borrowed
 */
export function parseQuery(bytes: Uint8Array): DnsQuery | DnsFormatError {
  if (bytes.length < DNS_HEADER_BYTES) return formatError(null, 0, "Message shorter than a header");
  const id = readUint16(bytes, 0);
  const flags = readUint16(bytes, 2);
  if ((flags & DNS_FLAG.RESPONSE) !== 0) return formatError(id, flags, "A response, not a query");
  if ((flags & OPCODE_MASK) !== 0)
    return formatError(id, flags, "Opcode other than QUERY", RCODE.NOTIMP);
  if (readUint16(bytes, 4) !== 1) return formatError(id, flags, "Not exactly one question");
  const asked = readName(bytes, DNS_HEADER_BYTES, bytes.length);
  if (asked === null || asked.next + 4 > bytes.length)
    return formatError(id, flags, "Question is malformed");
  const questionEnd = asked.next + 4;
  const edns = readEdns(bytes, questionEnd);
  if (edns === "malformed")
    return formatError(id, flags, "Record behind the question is malformed");
  if (edns === "bad-version")
    return formatError(id, flags, "EDNS version other than 0", RCODE.BADVERS);
  return {
    kind: "query",
    id,
    recursionDesired: (flags & DNS_FLAG.RECURSION_DESIRED) !== 0,
    checkingDisabled: (flags & DNS_FLAG.CHECKING_DISABLED) !== 0,
    name: asked.name,
    type: readUint16(bytes, asked.next),
    class: readUint16(bytes, asked.next + 2),
    question: Uint8Array.from(bytes.subarray(DNS_HEADER_BYTES, questionEnd)),
    edns,
  };
}

/** The most octets a UDP answer to `query` may have. */
export function udpLimit(query: DnsQuery): number {
  return Math.min(MAX_UDP_BYTES, Math.max(MIN_UDP_BYTES, query.edns?.payloadBytes ?? 0));
}

/**
 * Whether `bytes` answers `query`: same id, a response, same question (letter case aside).
 * What a forwarder checks before it relays, against answers nobody asked for.
 */
export function answersQuery(query: DnsQuery, bytes: Uint8Array): boolean {
  if (bytes.length < DNS_HEADER_BYTES || readUint16(bytes, 0) !== query.id) return false;
  if ((readUint16(bytes, 2) & DNS_FLAG.RESPONSE) === 0) return false;
  const questions = readUint16(bytes, 4);
  // Servers that could not read the question leave it out of their FORMERR or NOTIMP.
  if (questions === 0) return rcodeOf(bytes) !== RCODE.NOERROR;
  const asked = readName(bytes, DNS_HEADER_BYTES, bytes.length);
  return (
    questions === 1 &&
    asked !== null &&
    asked.next + 4 <= bytes.length &&
    asked.name === query.name &&
    readUint16(bytes, asked.next) === query.type &&
    readUint16(bytes, asked.next + 2) === query.class
  );
}

/** @param bytes a message of at least a header */
export function isTruncated(bytes: Uint8Array): boolean {
  return (readUint16(bytes, 2) & DNS_FLAG.TRUNCATED) !== 0;
}

/** The four bits in the header. @param bytes a message of at least a header */
export function rcodeOf(bytes: Uint8Array): number {
  return readUint16(bytes, 2) & 0x0f;
}

/** Walks all records behind the question; only the OPT is looked at. Each record has 11 octets or more. */
function readEdns(bytes: Uint8Array, start: number): Edns | null | "malformed" | "bad-version" {
  let edns: Edns | null = null;
  let isKnownVersion = true;
  const before = readUint16(bytes, 6) + readUint16(bytes, 8);
  const total = before + readUint16(bytes, 10);
  let at = start;
  for (let i = 0; i < total; i++) {
    const owner = readName(bytes, at, bytes.length);
    if (owner === null || owner.next + 10 > bytes.length) return "malformed";
    const type = readUint16(bytes, owner.next);
    if (type === RECORD_TYPE.OPT) {
      // RFC 6891 §6.1.1: one, in the additional section, owned by the root.
      if (edns !== null || i < before || owner.name !== "") return "malformed";
      isKnownVersion = bytes[owner.next + 5] === 0;
      edns = {
        payloadBytes: readUint16(bytes, owner.next + 2),
        dnssecOk: (bytes[owner.next + 6]! & 0x80) !== 0,
      };
    }
    at = owner.next + 10 + readUint16(bytes, owner.next + 8);
    if (at > bytes.length) return "malformed";
  }
  return isKnownVersion ? edns : "bad-version";
}

function formatError(
  id: number | null,
  flags: number,
  reason: string,
  rcode: DnsFormatError["rcode"] = RCODE.FORMERR,
): DnsFormatError {
  return {
    kind: "format-error",
    reason,
    id,
    recursionDesired: (flags & DNS_FLAG.RECURSION_DESIRED) !== 0,
    opcodeBits: flags & OPCODE_MASK,
    rcode,
  };
}

function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}
