import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { test } from "node:test";
import { spiffeId } from "#lib/net/spiffe.ts";
import type { CertificateOrder } from "#lib/grpc/ca-client.ts";
import { parseCsr, createCsr } from "./csr.ts";
import { issueCa, issueLeaf, type Signer as Ca } from "./issue.ts";
import { generateEcKey } from "./keys.ts";
import { dumpCertificates } from "./certificates-dump.ts";
import { fetchFrom, toMaterial } from "./signer.ts";

const HOUR = 3_600_000;
const NOW = Math.floor(Date.now() / 1_000) * 1_000;
const ID = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });
const OTHER = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "pay" });

async function authority(organization: string, parent: Ca | null = null): Promise<Ca> {
  const keys = await generateEcKey();
  const dates = { notBeforeMs: NOW - HOUR, notAfterMs: NOW + 10 * HOUR };
  const certificate = await issueCa(parent, { organization, keys, ...dates });
  return { certificate, key: keys.privateKey };
}

async function leafPem(ca: Ca, csrPem: string, identity: string): Promise<string> {
  const leaf = await issueLeaf(ca, {
    publicKey: parseCsr(csrPem).publicKey,
    sans: [{ kind: "uri", value: identity }],
    notBeforeMs: NOW - 120_000,
    notAfterMs: NOW + HOUR,
  });
  return leaf.pem;
}

test("a certificate is ordered for the pod's identity and its answer taken apart", async () => {
  const root = await authority("root");
  const second = await authority("next root");
  const issuer = await authority("issuer", root);
  const orders: CertificateOrder[] = [];
  const fetch = fetchFrom(
    {
      async createCertificate(order) {
        orders.push(order);
        const leaf = await leafPem(issuer, order.csrPem, ID);
        const bundle = `${root.certificate.pem}not a certificate\n${second.certificate.pem}`;
        return [leaf, issuer.certificate.pem, bundle];
      },
    },
    24 * HOUR,
  );
  const material = await fetch(ID, new AbortController().signal);
  assert.equal(orders[0]?.impersonate, ID);
  assert.equal(orders[0]?.ttlSeconds, 86_400);
  assert.equal(material.identity, ID);
  assert.deepEqual(material.chain.map(Buffer.from), [issuer.certificate.der]);
  assert.deepEqual(material.roots.map(Buffer.from), [root.certificate.der, second.certificate.der]);
  assert.deepEqual([material.notBefore, material.notAfter], [NOW - 120_000, NOW + HOUR]);
  for (const bytes of [material.leaf, material.privateKey, ...material.roots])
    assert.equal(bytes.buffer.byteLength, bytes.byteLength, "its own buffer, not a window");
  const key = createPrivateKey({
    key: Buffer.from(material.privateKey),
    format: "der",
    type: "pkcs8",
  });
  assert.equal(key.asymmetricKeyType, "ec");
  const [dump] = dumpCertificates([{ identity: ID, state: "available", material, error: null }]);
  assert.equal(dump?.state, "Available");
  assert.equal(dump?.certChain.length, 2);
  assert.equal(dump?.rootCerts.length, 2);
  assert.match(dump?.certChain[0]?.serialNumber ?? "", /^\d+$/);
  assert.equal(
    dump?.certChain[0]?.expirationTime,
    new Date(NOW + HOUR).toISOString().replace(".000Z", "Z"),
  );
  assert.match(Buffer.from(dump?.certChain[0]?.pem ?? "", "base64").toString(), /^-----BEGIN CERT/);
});

test("an answer that cannot be trusted is refused", async () => {
  const root = await authority("root");
  const { csrPem, privateKeyDer } = await createCsr(ID);
  const good = await leafPem(root, csrPem, ID);
  const forOther = await leafPem(root, csrPem, OTHER);
  const otherKey = await leafPem(root, (await createCsr(ID)).csrPem, ID);
  const rootPem = root.certificate.pem;
  assert.ok(toMaterial(ID, [good, rootPem], privateKeyDer));
  for (const c of [
    { chain: [], wrong: /0 certificates/ },
    { chain: [good], wrong: /1 certificates/ },
    { chain: [forOther, rootPem], wrong: /Asked for .*sa\/cart, got .*sa\/pay/ },
    { chain: [rootPem, rootPem], wrong: /got no identity/ },
    { chain: [otherKey, rootPem], wrong: /not for the key/ },
    { chain: [good, "no pem here"], wrong: /no root certificate/ },
  ])
    assert.throws(() => toMaterial(ID, c.chain, privateKeyDer), {
      code: "SIGNER_ANSWER",
      message: c.wrong,
    });
});
