// A throw-away authority for tests: EC keys, so that making one takes a millisecond.
import { makeCaBundle, type CaBundle } from "./ca-bundle.ts";
import { issueCa, issueLeaf } from "./issue.ts";
import { generateEcKey } from "./keys.ts";
import { sanOf } from "./san.ts";

export interface TestPair {
  readonly certChainPem: string;
  readonly privateKeyPem: string;
}

const DAY_MS = 86_400_000;

export async function testCa(
  nowMs = Date.now(),
  organization = "cluster.local",
): Promise<CaBundle> {
  const keys = await generateEcKey();
  const root = await issueCa(null, {
    organization,
    keys,
    notBeforeMs: nowMs - 60_000,
    notAfterMs: nowMs + 3650 * DAY_MS,
  });
  return makeCaBundle(root, keys.privateKey, [], [root], nowMs);
}

/** A certificate and key for the given names: SPIFFE ids, IP addresses or DNS names. */
export async function testPair(ca: CaBundle, names: readonly string[]): Promise<TestPair> {
  const keys = await generateEcKey();
  const nowMs = Date.now();
  const leaf = await issueLeaf(ca.signer, {
    publicKey: keys.publicKey,
    sans: names.map(sanOf),
    notBeforeMs: nowMs - 60_000,
    notAfterMs: nowMs + DAY_MS,
  });
  return {
    certChainPem: leaf.pem + ca.chain.map((issuer) => issuer.pem).join(""),
    privateKeyPem: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}
