// DER values used by requests and certificates, built with node-forge's ASN.1 (bytes are Latin-1 strings there).
import forge from "node-forge/lib/asn1.js";
import type { asn1 } from "node-forge";

export type Asn1 = asn1.Asn1;

const { Class, Type } = forge;

export const OID = {
  commonName: "2.5.4.3",
  organization: "2.5.4.10",
  extensionRequest: "1.2.840.113549.1.9.14",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  sha256WithRsa: "1.2.840.113549.1.1.11",
  ecdsaSha256: "1.2.840.10045.4.3.2",
  ecdsaSha384: "1.2.840.10045.4.3.3",
  ecdsaSha512: "1.2.840.10045.4.3.4",
} as const;

function universal(type: asn1.Type, value: string): Asn1 {
  return forge.create(Class.UNIVERSAL, type, false, value);
}

export function sequence(...items: Asn1[]): Asn1 {
  return forge.create(Class.UNIVERSAL, Type.SEQUENCE, true, items);
}

export function set(...items: Asn1[]): Asn1 {
  return forge.create(Class.UNIVERSAL, Type.SET, true, items);
}

/** `[number]` holding other values. */
export function tagged(number: number, ...items: Asn1[]): Asn1 {
  return forge.create(Class.CONTEXT_SPECIFIC, number, true, items);
}

/** `[number]` replacing the tag of a primitive value. */
export function taggedPrimitive(number: number, bytes: Uint8Array): Asn1 {
  return forge.create(Class.CONTEXT_SPECIFIC, number, false, latin1(bytes));
}

export function oid(dotted: string): Asn1 {
  return universal(Type.OID, forge.oidToDer(dotted).getBytes());
}

export function nullValue(): Asn1 {
  return universal(Type.NULL, "");
}

export function boolean(value: boolean): Asn1 {
  return universal(Type.BOOLEAN, value ? "\xff" : "\x00");
}

export function smallInteger(value: number): Asn1 {
  return universal(Type.INTEGER, forge.integerToDer(value).getBytes());
}

/** A non-negative INTEGER from big-endian bytes, in the shortest form. */
export function unsignedInteger(bytes: Uint8Array): Asn1 {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const body = latin1(bytes.subarray(start));
  return universal(Type.INTEGER, (bytes[start] ?? 0) >= 0x80 ? `\x00${body}` : body);
}

export function utf8String(text: string): Asn1 {
  return universal(Type.UTF8, latin1(Buffer.from(text, "utf8")));
}

export function octetString(bytes: Uint8Array): Asn1 {
  return universal(Type.OCTETSTRING, latin1(bytes));
}

/** Whole bytes: `unused` counts the low bits of the last one that do not belong. */
export function bitString(bytes: Uint8Array, unused = 0): Asn1 {
  return universal(Type.BITSTRING, String.fromCharCode(unused) + latin1(bytes));
}

/** UTCTime up to 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5). Whole seconds. */
export function time(ms: number): Asn1 {
  const date = new Date(ms);
  return date.getUTCFullYear() < 2050
    ? universal(Type.UTCTIME, forge.dateToUtcTime(date))
    : universal(Type.GENERALIZEDTIME, forge.dateToGeneralizedTime(date));
}

export function toDer(value: Asn1): Buffer {
  return Buffer.from(forge.toDer(value).getBytes(), "latin1");
}

/** @throws {Error} (node-forge's) unless `der` is exactly one value in strict DER */
export function fromDer(der: Uint8Array): Asn1 {
  const options = { strict: true, parseAllBytes: true, decodeBitStrings: false };
  // eslint-disable-next-line typescript/no-unsafe-type-assertion -- the type package knows only the older boolean
  return forge.fromDer(latin1(der), options as unknown as boolean);
}

/** The members of a constructed value; empty for a primitive one. */
export function items(value: Asn1 | undefined): readonly Asn1[] {
  return value !== undefined && typeof value.value !== "string" ? value.value : [];
}

/** The content of a primitive value, or `null` for a constructed or absent one. */
export function content(value: Asn1 | undefined): Buffer | null {
  return value !== undefined && typeof value.value === "string"
    ? Buffer.from(value.value, "latin1")
    : null;
}

/** The dotted form of an OBJECT IDENTIFIER, or `null` for anything else. */
export function oidOf(value: Asn1 | undefined): string | null {
  return value !== undefined && isUniversal(value, Type.OID) && typeof value.value === "string"
    ? forge.derToOid(value.value)
    : null;
}

export function isSequence(value: Asn1 | undefined): value is Asn1 {
  return value !== undefined && isUniversal(value, Type.SEQUENCE) && value.constructed;
}

export function isBitString(value: Asn1 | undefined): value is Asn1 {
  return value !== undefined && isUniversal(value, Type.BITSTRING);
}

/** True for the context tag `[number]`. */
export function hasTag(value: Asn1 | undefined, number: number): value is Asn1 {
  return value?.tagClass === Class.CONTEXT_SPECIFIC && Number(value.type) === number;
}

function isUniversal(value: Asn1, type: asn1.Type): boolean {
  return value.tagClass === Class.UNIVERSAL && value.type === type;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
