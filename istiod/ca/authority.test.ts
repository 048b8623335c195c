// Lives of leaves, names of istiod's own certificate, and which CA may follow which.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCaBundle, type CaBundle } from "#lib/pki/ca-bundle.ts";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { issueCa } from "#lib/pki/issue.ts";
import { generateEcKey } from "#lib/pki/keys.ts";
import { testCa } from "#lib/pki/test-ca.ts";
import { CertificateAuthority, servingNames } from "./authority.ts";

const NOW = Math.floor(Date.now() / 1000) * 1000;
const HOUR = 3_600_000;
const ID = "spiffe://cluster.local/ns/shop/sa/cart";

const authority = (bundle: CaBundle, allowRootChange = false): CertificateAuthority =>
  new CertificateAuthority(bundle, {
    defaultTtlMs: 24 * HOUR,
    maxTtlMs: 2160 * HOUR,
    allowRootChange,
    now: () => NOW,
  });

async function intermediate(root: CaBundle, lifeMs: number): Promise<CaBundle> {
  const keys = await generateEcKey();
  const certificate = await issueCa(root.signer, {
    organization: "mid",
    keys,
    notBeforeMs: NOW - HOUR,
    notAfterMs: NOW + lifeMs,
  });
  return makeCaBundle(certificate, keys.privateKey, [], root.roots, NOW);
}

async function lifeOf(ca: CertificateAuthority, ttlMs: number): Promise<number> {
  const { publicKey } = await generateEcKey();
  const order = { publicKey, identities: [ID], ttlMs, withCommonName: false };
  const leaf = parseCertificate((await ca.issue(order))[0] ?? "");
  assert.equal(leaf.notBeforeMs, NOW - 120_000);
  return leaf.notAfterMs - NOW;
}

test("a leaf lives as asked, by default a day, and never longer than its signer", async () => {
  const root = await testCa(NOW);
  const plain = authority(root);
  assert.equal(await lifeOf(plain, HOUR), HOUR);
  assert.equal(await lifeOf(plain, 0), 24 * HOUR);
  assert.equal(await lifeOf(plain, -5), 24 * HOUR);
  const short = authority(await intermediate(root, 2 * HOUR));
  assert.equal(await lifeOf(short, 10 * HOUR), 2 * HOUR);
  assert.equal(await lifeOf(short, 0), 2 * HOUR);
  assert.ok(plain.allowsTtl(2160 * HOUR));
  assert.ok(!plain.allowsTtl(2160 * HOUR + 1));
});

test("the common name repeats the identity only when asked and short enough", async () => {
  const ca = authority(await testCa(NOW));
  const { publicKey } = await generateEcKey();
  const subject = async (identity: string, withCommonName: boolean) =>
    parseCertificate(
      (await ca.issue({ publicKey, identities: [identity], ttlMs: 0, withCommonName }))[0] ?? "",
    ).x509.subject;
  assert.equal(await subject(ID, true), `CN=${ID}`);
  assert.equal((await subject(ID, false)) ?? "", "");
  assert.equal((await subject(`${ID}-${"x".repeat(64)}`, true)) ?? "", "");
});

test("istiod's names", () => {
  assert.deepEqual(
    servingNames({
      namespace: "mesh",
      revision: "canary",
      customHosts: ["istiod.example", "10.0.0.1"],
    }),
    [
      "istiod.mesh.svc",
      "istiod-remote.mesh.svc",
      "istio-pilot.mesh.svc",
      "istiod-canary.mesh.svc",
      "istiod.example",
      "10.0.0.1",
    ],
  );
});

test("a new intermediate under the same roots is accepted, another root is not", async () => {
  const root = await testCa(NOW);
  const ca = authority(root);
  assert.equal(ca.replace(root), false);
  assert.equal(ca.replace(await intermediate(root, HOUR)), true);
  const stranger = await testCa(NOW);
  assert.throws(() => ca.replace(stranger), { code: "ROOT_CHANGED" });
  const both = {
    ...root,
    roots: [...root.roots, ...stranger.roots],
    rootPem: root.rootPem + stranger.rootPem,
  };
  assert.throws(() => ca.replace(both), { code: "ROOT_CHANGED" });
  const lenient = authority(root, true);
  assert.equal(lenient.replace(both), true);
  assert.throws(() => authority(root, true).replace(stranger), { code: "ROOT_CHANGED" });
});
