// Certificates as openssl and TLS see them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { certificateChain, makeCaBundle } from "./ca-bundle.ts";
import { certifiesKey, parseCertificate } from "./certificate.ts";
import { issueCa, issueLeaf } from "./issue.ts";
import { generateEcKey, generateRsaKey, type KeyPair } from "./keys.ts";
import { parseSanText, sanOf } from "./san.ts";
import { testCa } from "./test-ca.ts";
import { parseTrustBundle, verifyChain } from "./trust-bundle.ts";

const NOW = Date.now();
const DAY = 86_400_000;
const ID = "spiffe://cluster.local/ns/shop/sa/cart";

/** Root and intermediate with the given keys, and a leaf of the intermediate. */
async function chain(rootKeys: KeyPair, midKeys: KeyPair) {
  const root = await issueCa(null, {
    organization: "cluster.local",
    keys: rootKeys,
    notBeforeMs: NOW,
    notAfterMs: NOW + 3650 * DAY,
  });
  const mid = await issueCa(
    { certificate: root, key: rootKeys.privateKey },
    { organization: "mid", keys: midKeys, notBeforeMs: NOW, notAfterMs: NOW + 30 * DAY },
  );
  const leafKeys = await generateEcKey();
  const leaf = await issueLeaf(
    { certificate: mid, key: midKeys.privateKey },
    {
      publicKey: leafKeys.publicKey,
      sans: [sanOf(ID)],
      notBeforeMs: NOW - 120_000,
      notAfterMs: NOW + DAY,
    },
  );
  return { root, mid, leaf, leafKeys };
}

for (const [name, make] of [
  ["RSA root, P-256 intermediate", async () => [await generateRsaKey(), await generateEcKey()]],
  [
    "P-384 root, RSA intermediate",
    async () => [await generateEcKey("P-384"), await generateRsaKey()],
  ],
  ["P-256 and P-521", async () => [await generateEcKey(), await generateEcKey("P-521")]],
] as const)
  test(`openssl verifies a chain: ${name}`, async () => {
    const [rootKeys, midKeys] = (await make()) as [KeyPair, KeyPair];
    const { root, mid, leaf } = await chain(rootKeys, midKeys);
    const dir = mkdtempSync(join(tmpdir(), "chain-"));
    try {
      for (const [file, certificate] of Object.entries({ root, mid, leaf }))
        writeFileSync(join(dir, file), certificate.pem);
      const out = execFileSync("openssl", [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        join(dir, "root"),
        "-untrusted",
        join(dir, "mid"),
        join(dir, "leaf"),
      ]);
      assert.match(out.toString(), /: OK/);
    } finally {
      rmSync(dir, { recursive: true });
    }
    assert.deepEqual(verifyChain(leaf, [mid], [root], NOW), [leaf, mid, root]);
  });

test("a leaf has the profile of the contract", async () => {
  const { leaf, leafKeys, mid } = await chain(await generateEcKey(), await generateEcKey());
  const text = execFileSync("openssl", ["x509", "-noout", "-text"], { input: leaf.pem }).toString();
  assert.match(text, /Version: 3/);
  assert.match(text, /Subject: *\n/);
  assert.match(text, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
  assert.match(
    text,
    /Extended Key Usage: \s+TLS Web Server Authentication, TLS Web Client Authentication/,
  );
  assert.match(text, /Basic Constraints: critical\s+CA:FALSE/);
  assert.match(text, /Authority Key Identifier:/);
  assert.match(text, /Subject Alternative Name: critical\s+URI:spiffe/);
  assert.deepEqual(leaf.uriSans, [ID]);
  assert.equal(leaf.notBeforeMs, Math.floor((NOW - 120_000) / 1000) * 1000);
  assert.ok(certifiesKey(leaf, leafKeys.privateKey) && certifiesKey(leaf, leafKeys.publicKey));
  assert.ok(!certifiesKey(mid, leafKeys.privateKey));
});

test("a leaf ends no later than its signer, and never before it began", async () => {
  const { signer } = await testCa(NOW);
  const { publicKey } = await generateEcKey();
  const options = { publicKey, sans: [sanOf(ID)], notBeforeMs: NOW, notAfterMs: NOW + 9999 * DAY };
  const leaf = await issueLeaf(signer, options);
  assert.equal(leaf.notAfterMs, signer.certificate.notAfterMs);
  await assert.rejects(issueLeaf(signer, { ...options, notBeforeMs: NOW + 9000 * DAY }), {
    code: "SIGNER_INVALID",
  });
});

test("a leaf cannot sign", async () => {
  const { leaf, leafKeys } = await chain(await generateEcKey(), await generateEcKey());
  await assert.rejects(
    issueLeaf(
      { certificate: leaf, key: leafKeys.privateKey },
      { publicKey: leafKeys.publicKey, sans: [], notBeforeMs: NOW, notAfterMs: NOW + DAY },
    ),
    { code: "SIGNER_INVALID" },
  );
});

test("dates from 2050 on are written in the other format", async () => {
  const keys = await generateEcKey();
  const root = await issueCa(null, {
    organization: "o",
    keys,
    notBeforeMs: Date.UTC(2049, 11, 31),
    notAfterMs: Date.UTC(2051, 0, 1),
  });
  assert.equal(root.notBeforeMs, Date.UTC(2049, 11, 31));
  assert.equal(root.notAfterMs, Date.UTC(2051, 0, 1));
});

test("an answer is leaf, issuers one per element, root bundle last", async () => {
  const midKeys = await generateEcKey();
  const { root, mid, leaf } = await chain(await generateEcKey(), midKeys);
  const other = (await testCa(NOW, "other")).signer.certificate;
  const bundle = makeCaBundle(mid, midKeys.privateKey, [root, other], [root, other], NOW);
  assert.deepEqual(certificateChain(leaf, bundle), [leaf.pem, mid.pem, root.pem + other.pem]);
  const self = await testCa(NOW);
  assert.equal(certificateChain(leaf, self).length, 2);
});

test("a chain must lead to a root, in time", async () => {
  const { root, mid, leaf } = await chain(await generateEcKey(), await generateEcKey());
  const stranger = (await testCa(NOW)).signer.certificate;
  for (const [mids, roots, now] of [
    [[], [root], NOW],
    [[mid], [stranger], NOW],
    [[mid], [root], NOW + 31 * DAY],
    [[mid], [root], NOW - DAY],
  ] as const)
    assert.throws(() => verifyChain(leaf, mids, roots, now), { code: "CHAIN_INVALID" });
});

test("a trust bundle skips what is no certificate and repeats nothing", async () => {
  const { rootPem } = await testCa(NOW);
  const junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const { roots, skipped } = parseTrustBundle(`# comment\n${rootPem}${junk}${rootPem}`);
  assert.equal(roots.length, 1);
  assert.equal(skipped, 1);
});

test("a comma inside a name does not make two names", () => {
  assert.deepEqual(
    parseSanText('URI:"spiffe://a, DNS:evil", DNS:b, IP Address:FD00:0:0:0:0:0:0:1'),
    [
      { kind: "uri", value: "spiffe://a, DNS:evil" },
      { kind: "dns", value: "b" },
      { kind: "ip", value: "fd00::1" },
    ],
  );
});

test("what is no certificate is refused", () => {
  for (const source of ["", "x", Buffer.from("3000", "hex"), new Uint8Array(0)])
    assert.throws(() => parseCertificate(source), { code: "CERTIFICATE_INVALID" });
});
