// Roots and the question whether a chain leads to one of them.
import { parseCertificate, type Certificate } from "./certificate.ts";
import { PkiError } from "./errors.ts";
import { parsePem } from "./pem.ts";

/** Longer chains are refused: nobody has them, and each link costs a signature check. */
const MAX_CHAIN_LENGTH = 8;

export interface TrustBundle {
  readonly roots: readonly Certificate[];
  /** PEM blocks that are no certificate, or unreadable ones: skipped, for the caller to warn about. */
  readonly skipped: number;
}

/** Reads a root bundle. Unreadable entries are skipped; duplicates fall together. */
export function parseTrustBundle(pem: string): TrustBundle {
  const roots = new Map<string, Certificate>();
  let skipped = 0;
  for (const block of parsePem(pem)) {
    try {
      if (block.label !== "CERTIFICATE") throw new PkiError("PEM_INVALID", "No certificate");
      const root = parseCertificate(block.der);
      roots.set(root.pem, root);
    } catch {
      skipped++;
    }
  }
  return { roots: [...roots.values()], skipped };
}

export function formatTrustBundle(roots: readonly Certificate[]): string {
  return [...new Set(roots.map((root) => root.pem))].join("");
}

/**
 * Finds a path from `leaf` over `intermediates` to a root that is valid at `nowMs`.
 * @returns leaf first, root last
 * @throws {PkiError} `CHAIN_INVALID`, saying where the path stops
 */
export function verifyChain(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  roots: readonly Certificate[],
  nowMs: number,
): readonly Certificate[] {
  const path: Certificate[] = [leaf];
  for (let current = leaf; path.length <= MAX_CHAIN_LENGTH; ) {
    checkDates(current, nowMs);
    const self = roots.find((root) => root.der.equals(current.der));
    if (self !== undefined) return path;
    const isIssuer = (candidate: Certificate): boolean =>
      candidate.isCa &&
      current.x509.checkIssued(candidate.x509) &&
      current.x509.verify(candidate.x509.publicKey);
    const root = roots.find(isIssuer);
    const next = root ?? intermediates.find((c) => !path.includes(c) && isIssuer(c));
    if (next === undefined)
      throw new PkiError(
        "CHAIN_INVALID",
        `No issuer found for certificate ${describe(current)}, whose issuer is ${oneLine(current.x509.issuer)}`,
      );
    path.push(next);
    current = next;
  }
  throw new PkiError("CHAIN_INVALID", `Chain is longer than ${MAX_CHAIN_LENGTH} certificates`);
}

function checkDates(certificate: Certificate, nowMs: number): void {
  if (nowMs < certificate.notBeforeMs || nowMs > certificate.notAfterMs)
    throw new PkiError(
      "CHAIN_INVALID",
      `Certificate ${describe(certificate)} is valid from ${new Date(certificate.notBeforeMs).toISOString()} to ${new Date(certificate.notAfterMs).toISOString()}`,
    );
}

function describe(certificate: Certificate): string {
  const subject = oneLine(certificate.x509.subject);
  return JSON.stringify(subject === "" ? (certificate.uriSans[0] ?? certificate.serial) : subject);
}

function oneLine(name: string | undefined): string {
  return (name ?? "").replaceAll("\n", ", ");
}
