// A parsed X.509 certificate: the facts the mesh asks of one, beside Node's own object.
import { X509Certificate, type KeyObject } from "node:crypto";
import { PkiError } from "./errors.ts";
import { formatPem, parsePem } from "./pem.ts";
import { parseSanText } from "./san.ts";

export interface Certificate {
  readonly der: Buffer;
  /** One block with a final newline. */
  readonly pem: string;
  readonly x509: X509Certificate;
  /** In the order of the certificate; not checked to be SPIFFE ids. */
  readonly uriSans: readonly string[];
  readonly dnsSans: readonly string[];
  readonly ipSans: readonly string[];
  /** Milliseconds since the epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Upper-case hex, no leading zeros beyond whole bytes. */
  readonly serial: string;
  readonly isCa: boolean;
}

/** @param source PEM text (its first certificate) or DER. @throws {PkiError} `CERTIFICATE_INVALID`, `PEM_INVALID` */
export function parseCertificate(source: string | Uint8Array): Certificate {
  const der = typeof source === "string" ? firstDer(source) : source;
  let x509: X509Certificate;
  try {
    x509 = new X509Certificate(der);
  } catch (cause) {
    throw new PkiError("CERTIFICATE_INVALID", "Cannot parse certificate", { cause });
  }
  const sans = parseSanText(x509.subjectAltName);
  const values = (kind: string): string[] =>
    sans.filter((san) => san.kind === kind).map((san) => san.value);
  return {
    der: x509.raw,
    pem: formatPem("CERTIFICATE", x509.raw),
    x509,
    uriSans: values("uri"),
    dnsSans: values("dns"),
    ipSans: values("ip"),
    notBeforeMs: x509.validFromDate.getTime(),
    notAfterMs: x509.validToDate.getTime(),
    serial: x509.serialNumber,
    isCa: x509.ca,
  };
}

/** Every certificate of a PEM bundle, in order. @throws {PkiError} `CERTIFICATE_INVALID`, `PEM_INVALID` */
export function parseCertificates(pem: string): Certificate[] {
  return parsePem(pem)
    .filter((block) => block.label === "CERTIFICATE")
    .map((block) => parseCertificate(block.der));
}

/** True when `key`, private or public, is the one this certificate certifies. */
export function certifiesKey(certificate: Certificate, key: KeyObject): boolean {
  if (key.type === "private") return certificate.x509.checkPrivateKey(key);
  return key.type === "public" && certificate.x509.publicKey.equals(key);
}

function firstDer(pem: string): Buffer {
  const block = parsePem(pem).find((candidate) => candidate.label === "CERTIFICATE");
  if (block === undefined)
    throw new PkiError("CERTIFICATE_INVALID", "No PEM block CERTIFICATE found");
  return block.der;
}
