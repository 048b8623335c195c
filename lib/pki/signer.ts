// One certificate from the control plane's signer: a fresh key, a request, and the checks without
// which the answer is not used. Source: contract of istio citadel.proto; the key never leaves memory.
import { createPrivateKey } from "node:crypto";
import type { CertificateOrder } from "#lib/grpc/ca-client.ts";
import { parseSpiffeId, spiffeParts } from "#lib/net/spiffe.ts";
import { parseCertificate, parseCertificates, type Certificate } from "./certificate.ts";
import { createCsr } from "./csr.ts";
import { parseTrustBundle } from "./trust-bundle.ts";
import { certifiesKey } from "./certificate.ts";
import type { CertificateMaterial } from "./certificate-material.ts";
import { PkiError } from "./errors.ts";
import type { FetchCertificate } from "./certificate-manager.ts";

export interface Signer {
  createCertificate(order: CertificateOrder, signal?: AbortSignal): Promise<readonly string[]>;
}

/**
 * A `FetchCertificate` that asks `signer`.
 * @param asks  `pods`: a node proxy, on behalf of its node's pods; `own`: a proxy with an identity of its own
 */
export function fetchFrom(
  signer: Signer,
  ttlMs: number,
  asks: "pods" | "own" = "pods",
): FetchCertificate {
  return async (identity, signal) => {
    const { csrPem, privateKeyDer } = await createCsr(parseSpiffeId(identity));
    const ttlSeconds = Math.floor(ttlMs / 1_000);
    const chain = await signer.createCertificate(
      { csrPem, ttlSeconds, ...(asks === "pods" ? { impersonate: identity } : {}) },
      signal,
    );
    return toMaterial(identity, chain, privateKeyDer);
  };
}

/**
 * @param chain  as the signer sends it: the leaf, its issuers, and last the root bundle
 * @throws {PkiError} SIGNER_ANSWER when the leaf names another identity or key, or no root can be read
 */
export function toMaterial(
  identity: string,
  chain: readonly string[],
  privateKey: Buffer,
): CertificateMaterial {
  const [leafPem, ...rest] = chain;
  const rootPem = rest.pop();
  if (leafPem === undefined || rootPem === undefined)
    throw new PkiError(
      "SIGNER_ANSWER",
      `The signer sent ${chain.length} certificates, expected 2 or more`,
    );
  const leaf = parseCertificate(leafPem);
  checkLeaf(identity, leaf, privateKey);
  const { roots } = parseTrustBundle(rootPem);
  if (roots.length === 0)
    throw new PkiError("SIGNER_ANSWER", "The signer sent no root certificate that can be read");
  return {
    identity,
    leaf: plain(leaf.der),
    // Only the first block of an issuer's element counts, as in Istio's ztunnel.
    chain: rest.flatMap((pem) => parseCertificates(pem).slice(0, 1)).map((c) => plain(c.der)),
    privateKey: plain(privateKey),
    roots: roots.map((root) => plain(root.der)),
    notBefore: leaf.notBeforeMs,
    notAfter: leaf.notAfterMs,
  };
}

function checkLeaf(identity: string, leaf: Certificate, privateKey: Buffer): void {
  const [san] = leaf.uriSans;
  if (san !== identity)
    throw new PkiError("SIGNER_ANSWER", `Asked for ${identity}, got ${san ?? "no identity"}`);
  spiffeParts(parseSpiffeId(san));
  const key = createPrivateKey({ key: privateKey, format: "der", type: "pkcs8" });
  if (!certifiesKey(leaf, key))
    throw new PkiError(
      "SIGNER_ANSWER",
      `The certificate of ${identity} is not for the key we sent`,
    );
}

/** A copy of its own: a Buffer may be a window on a shared pool, which would travel to the workers whole. */
function plain(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}
