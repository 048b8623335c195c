// Domain names between wire form (RFC 1035 §3.1, §4.1.4) and text: lower case, no trailing dot, root is "".

/** RFC 1035 §2.3.4, length octets and the root label included. */
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
/** Names begin behind the message header; a pointer in front of it is nonsense. */
const FIRST_NAME_OFFSET = 12;

export interface NameRead {
  readonly name: string;
  /** Offset behind the name where it was met, not where a pointer led. */
  readonly next: number;
}

/** A name of ours that the wire cannot carry: an empty label, one over 63 octets, or over 255 in all. */
export class DnsNameError extends Error {
  override readonly name = "DnsNameError";
}

/**
 * Reads the name at `offset`. Each pointer has to lead further back than the last, so the walk ends.
 * Octets that would be ambiguous as text are escaped as in zone files (`\.`, `\032`).
 * @returns null when the name is malformed, too long or leaves `[0, end)`
 */
export function readName(bytes: Uint8Array, offset: number, end: number): NameRead | null {
  let name = "";
  let at = offset;
  let next = -1;
  let segmentStart = offset;
  let wireBytes = 1;
  for (;;) {
    if (at >= end) return null;
    const length = bytes[at]!;
    if (length === 0) return { name, next: next === -1 ? at + 1 : next };
    if (length >= 0xc0) {
      if (at + 1 >= end) return null;
      const target = ((length & 0x3f) << 8) | bytes[at + 1]!;
      if (target < FIRST_NAME_OFFSET || target >= segmentStart) return null;
      if (next === -1) next = at + 2;
      at = target;
      segmentStart = target;
      continue;
    }
    if (length > MAX_LABEL_BYTES) return null; // 0x40 and 0x80: withdrawn label types
    wireBytes += length + 1;
    if (wireBytes > MAX_NAME_BYTES || at + 1 + length > end) return null;
    if (name !== "") name += ".";
    for (let i = at + 1; i <= at + length; i++) name += labelText(bytes[i]!);
    at += length + 1;
  }
}

/**
 * Writes `name` without compression.
 * @returns the offset behind it
 * @throws {DnsNameError} when a label is empty or too long
 */
export function writeName(out: Uint8Array, offset: number, name: string): number {
  let at = offset;
  if (name !== "")
    for (const label of name.split(".")) {
      if (label.length === 0 || label.length > MAX_LABEL_BYTES)
        throw new DnsNameError(`Not a domain name: ${JSON.stringify(name)}`);
      out[at++] = label.length;
      for (let i = 0; i < label.length; i++) out[at++] = label.charCodeAt(i);
    }
  out[at++] = 0;
  if (at - offset > MAX_NAME_BYTES)
    throw new DnsNameError(`Domain name of ${at - offset} octets, allowed ${MAX_NAME_BYTES}`);
  return at;
}

function labelText(octet: number): string {
  if (octet >= 0x41 && octet <= 0x5a) return String.fromCharCode(octet + 0x20);
  if (octet === 0x2e || octet === 0x5c) return `\\${String.fromCharCode(octet)}`;
  if (octet > 0x20 && octet < 0x7f) return String.fromCharCode(octet);
  return `\\${String(octet).padStart(3, "0")}`;
}
