// What a certificate authority is made of, whether plugged in from files or self-signed: checked as a whole.
import type { KeyObject } from "node:crypto";
import { certifiesKey, type Certificate } from "./certificate.ts";
import { PkiError } from "./errors.ts";
import type { Signer } from "./issue.ts";
import { formatTrustBundle, verifyChain } from "./trust-bundle.ts";

export interface CaBundle {
  readonly signer: Signer;
  /** What follows the leaf in an answer: issuer first, roots left out. Empty when a root signs. */
  readonly chain: readonly Certificate[];
  readonly roots: readonly Certificate[];
  /** The roots as PEM, one after another. */
  readonly rootPem: string;
}

/**
 * Checks that `key` belongs to `certificate`, that it is a CA, and that it leads to a root over `candidates`.
 * @param candidates intermediates in any order; those not on the path are dropped
 * @throws {PkiError} `SIGNER_INVALID`, `CHAIN_INVALID`
 */
export function makeCaBundle(
  certificate: Certificate,
  key: KeyObject,
  candidates: readonly Certificate[],
  roots: readonly Certificate[],
  nowMs: number,
): CaBundle {
  if (!certificate.isCa)
    throw new PkiError(
      "SIGNER_INVALID",
      "The signing certificate is not a CA (basicConstraints CA:TRUE is missing)",
    );
  if (!certifiesKey(certificate, key))
    throw new PkiError(
      "SIGNER_INVALID",
      "The private key does not belong to the signing certificate",
    );
  if (roots.length === 0)
    throw new PkiError("CHAIN_INVALID", "The root bundle holds no certificate");
  const path = verifyChain(certificate, candidates, roots, nowMs);
  return {
    signer: { certificate, key },
    chain: path.slice(0, -1),
    roots,
    rootPem: formatTrustBundle(roots),
  };
}

/** `cert_chain` of a signing answer: leaf, issuers one per element, and last the root bundle. */
export function certificateChain(leaf: Certificate, bundle: CaBundle): string[] {
  return [leaf.pem, ...bundle.chain.map((issuer) => issuer.pem), bundle.rootPem];
}

/** True when one bundle's roots contain all of the other's. */
export function isRootSubset(a: CaBundle, b: CaBundle): boolean {
  const [small, large] = a.roots.length <= b.roots.length ? [a, b] : [b, a];
  const known = new Set(large.roots.map((root) => root.pem));
  return small.roots.every((root) => known.has(root.pem));
}
