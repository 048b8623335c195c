// Making certificates: leaves for workloads and servers, and the CA certificates that sign them.
import { createHash, randomBytes, sign, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import {
  bitString,
  boolean,
  content,
  fromDer,
  hasTag,
  isSequence,
  items,
  octetString,
  OID,
  oid,
  oidOf,
  sequence,
  set,
  smallInteger,
  tagged,
  taggedPrimitive,
  time,
  toDer,
  unsignedInteger,
  utf8String,
  type Asn1,
} from "./asn1.ts";
import { parseCertificate, type Certificate } from "./certificate.ts";
import { PkiError } from "./errors.ts";
import { signatureAlgorithm } from "./keys.ts";
import { sanExtension, type San } from "./san.ts";

const signAsync = promisify(sign);

/** A CA certificate and its private key. */
export interface Signer {
  readonly certificate: Certificate;
  readonly key: KeyObject;
}

export interface LeafOptions {
  readonly publicKey: KeyObject;
  readonly sans: readonly San[];
  /** Milliseconds since the epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Absent: an empty subject. */
  readonly commonName?: string;
}

/** digitalSignature and keyEncipherment; keyCertSign. RFC 5280 §4.2.1.3, bit 0 first. */
const LEAF_KEY_USAGE = bitString(Uint8Array.of(0b1010_0000), 5);
const CA_KEY_USAGE = bitString(Uint8Array.of(0b0000_0100), 2);

/**
 * A leaf good for both ends of a TLS connection. Ends no later than its signer.
 * @throws {PkiError} `SIGNER_INVALID` when the signer has expired or is no CA
 */
export async function issueLeaf(signer: Signer, options: LeafOptions): Promise<Certificate> {
  const issuer = signer.certificate;
  if (!issuer.isCa) throw new PkiError("SIGNER_INVALID", "Signing certificate is not a CA");
  const notAfterMs = Math.min(options.notAfterMs, issuer.notAfterMs);
  if (notAfterMs <= options.notBeforeMs)
    throw new PkiError(
      "SIGNER_INVALID",
      `Signing certificate ended at ${new Date(issuer.notAfterMs).toISOString()}`,
    );
  const issuerFields = readIssuer(issuer);
  const extensions = [
    extension(OID.keyUsage, true, LEAF_KEY_USAGE),
    extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    extension(OID.basicConstraints, true, sequence()),
    ...(issuerFields.keyId === null ? [] : [authorityKeyId(issuerFields.keyId)]),
    sanExtension(options.sans),
  ];
  return signed(signer.key, {
    issuer: issuerFields.subject,
    subject:
      options.commonName === undefined ? sequence() : name(OID.commonName, options.commonName),
    publicKey: options.publicKey,
    notBeforeMs: options.notBeforeMs,
    notAfterMs,
    extensions,
  });
}

export interface CaOptions {
  /** Subject `O=`. */
  readonly organization: string;
  readonly keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A CA certificate: self-signed when `signer` is `null`, else an intermediate. */
export async function issueCa(signer: Signer | null, options: CaOptions): Promise<Certificate> {
  const subject = name(OID.organization, options.organization);
  const issuer = signer === null ? null : readIssuer(signer.certificate);
  const extensions = [
    extension(OID.keyUsage, true, CA_KEY_USAGE),
    extension(OID.basicConstraints, true, sequence(boolean(true))),
    extension(OID.subjectKeyId, false, octetString(keyIdOf(options.keys.publicKey))),
    ...(issuer?.keyId == null ? [] : [authorityKeyId(issuer.keyId)]),
  ];
  return signed(signer?.key ?? options.keys.privateKey, {
    issuer: issuer?.subject ?? subject,
    subject,
    publicKey: options.keys.publicKey,
    notBeforeMs: options.notBeforeMs,
    notAfterMs: options.notAfterMs,
    extensions,
  });
}

interface Tbs {
  readonly issuer: Asn1;
  readonly subject: Asn1;
  readonly publicKey: KeyObject;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly extensions: readonly Asn1[];
}

async function signed(key: KeyObject, fields: Tbs): Promise<Certificate> {
  const algorithm = signatureAlgorithm(key);
  const tbs = sequence(
    tagged(0, smallInteger(2)),
    unsignedInteger(serialNumber()),
    algorithm.identifier,
    fields.issuer,
    sequence(time(fields.notBeforeMs), time(fields.notAfterMs)),
    fields.subject,
    fromDer(fields.publicKey.export({ type: "spki", format: "der" })),
    tagged(3, sequence(...fields.extensions)),
  );
  const signature = await signAsync(algorithm.digest, toDer(tbs), key);
  return parseCertificate(toDer(sequence(tbs, algorithm.identifier, bitString(signature))));
}

/** 128 random bits; never zero (RFC 5280 §4.1.2.2). */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  if (bytes.every((byte) => byte === 0)) bytes[15] = 1;
  return bytes;
}

function extension(id: string, isCritical: boolean, value: Asn1): Asn1 {
  const body = octetString(toDer(value));
  return isCritical ? sequence(oid(id), boolean(true), body) : sequence(oid(id), body);
}

function authorityKeyId(keyId: Buffer): Asn1 {
  return extension(OID.authorityKeyId, false, sequence(taggedPrimitive(0, keyId)));
}

function name(attribute: string, value: string): Asn1 {
  return sequence(set(sequence(oid(attribute), utf8String(value))));
}

/** RFC 5280 §4.2.1.2 method 1. */
function keyIdOf(publicKey: KeyObject): Buffer {
  const [, bits] = items(fromDer(publicKey.export({ type: "spki", format: "der" })));
  return createHash("sha1")
    .update((content(bits) ?? Buffer.alloc(1)).subarray(1))
    .digest();
}

/** The parts of an issuer's certificate that its children repeat: subject (as encoded) and key id. */
function readIssuer(certificate: Certificate): { subject: Asn1; keyId: Buffer | null } {
  const tbs = items(items(fromDer(certificate.der))[0]);
  // Version [0] is present in every v3 certificate; then serial, algorithm, issuer, validity, subject.
  const subject = tbs[hasTag(tbs[0], 0) ? 5 : 4];
  if (!isSequence(subject)) throw new PkiError("SIGNER_INVALID", "Certificate has no subject");
  const extensions = items(items(tbs.find((field) => hasTag(field, 3)))[0]);
  const found = extensions.find((field) => oidOf(items(field)[0]) === OID.subjectKeyId);
  const body = content(items(found).at(-1));
  return { subject, keyId: body === null ? null : content(fromDer(body)) };
}
