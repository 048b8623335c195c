// Requests made here, by openssl, and by nobody honest.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createPrivateKey } from "node:crypto";
import { parseSpiffeId } from "../net/spiffe.ts";
import { createCsr, encodeCsr, parseCsr } from "./csr.ts";
import { generateEcKey, generateRsaKey } from "./keys.ts";
import { formatPem, parsePem } from "./pem.ts";

const ID = parseSpiffeId("spiffe://cluster.local/ns/shop/sa/cart");

test("a request has a P-256 key, an empty subject and one critical URI name", async () => {
  const { csrPem, privateKeyDer, privateKeyPem } = await createCsr(ID);
  const text = execFileSync("openssl", ["req", "-noout", "-text", "-verify"], {
    input: csrPem,
    stdio: ["pipe", "pipe", "pipe"],
  }).toString();
  assert.match(text, /NIST CURVE: P-256/);
  assert.match(text, /Subject: *\n/);
  assert.match(
    text,
    /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster.local\/ns\/shop\/sa\/cart\n/,
  );
  assert.match(text, /ecdsa-with-SHA256/);
  const { publicKey, hasCommonName } = parseCsr(csrPem);
  assert.equal(hasCommonName, false);
  const key = createPrivateKey({ key: privateKeyDer, format: "der", type: "pkcs8" });
  assert.ok(key.equals(createPrivateKey(privateKeyPem)));
  assert.equal(publicKey.asymmetricKeyType, "ec");
});

test("every request has a new key", async () => {
  const [a, b] = await Promise.all([createCsr(ID), createCsr(ID)]);
  assert.notEqual(a.privateKeyPem, b.privateKeyPem);
});

for (const [name, args] of [
  ["RSA 2048, as Istio's agent sends", ["-newkey", "rsa:2048", "-subj", "/O="]],
  ["RSA with a common name", ["-newkey", "rsa:2048", "-subj", "/CN=x"]],
  ["P-384", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384", "-subj", "/"]],
] as const)
  test(`a request of openssl is read: ${name}`, () => {
    const dir = mkdtempSync(join(tmpdir(), "csr-"));
    try {
      const out = join(dir, "csr.pem");
      execFileSync(
        "openssl",
        [
          "req",
          "-new",
          "-nodes",
          "-keyout",
          join(dir, "key.pem"),
          "-out",
          out,
          ...args,
          "-addext",
          `subjectAltName=critical,URI:${ID}`,
        ],
        { stdio: "ignore" },
      );
      assert.equal(parseCsr(readFileSync(out, "utf8")).hasCommonName, name.includes("common name"));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

test("a request signed with another key than its own is refused", async () => {
  const [mine, other] = await Promise.all([generateEcKey(), generateEcKey()]);
  const forged = encodeCsr({ publicKey: other.publicKey, privateKey: mine.privateKey }, ID);
  assert.throws(() => parseCsr(formatPem("CERTIFICATE REQUEST", forged)), {
    code: "CSR_INVALID",
    message: /not signed with its own key/,
  });
});

test("a request changed after signing is refused", async () => {
  const { csrPem } = await createCsr(ID);
  const der = parsePem(csrPem)[0]?.der ?? Buffer.alloc(0);
  const at = der.indexOf("cart");
  der.write("card", at);
  assert.throws(() => parseCsr(formatPem("CERTIFICATE REQUEST", der)), { code: "CSR_INVALID" });
});

test("a weak RSA key is refused", async () => {
  const csr = formatPem("CERTIFICATE REQUEST", encodeCsr(await generateRsaKey(1024), ID));
  assert.throws(() => parseCsr(csr), { code: "CSR_INVALID", message: /1024 bits/ });
});

for (const [name, pem] of [
  ["nothing", ""],
  ["no PEM", "hello"],
  ["another block", formatPem("CERTIFICATE", Buffer.from("00", "hex"))],
  ["an empty sequence", formatPem("CERTIFICATE REQUEST", Buffer.from("3000", "hex"))],
  ["rubbish", formatPem("CERTIFICATE REQUEST", Buffer.alloc(100, 0x30))],
  ["too much", "x".repeat(100_000)],
] as const)
  test(`not a request: ${name}`, () => {
    assert.throws(() => parseCsr(pem), { code: "CSR_INVALID" });
  });

test("damaged requests are refused, never a crash", async () => {
  const { csrPem } = await createCsr(ID);
  const der = parsePem(csrPem)[0]?.der ?? Buffer.alloc(0);
  for (let i = 0; i < der.length; i++) {
    const damaged = Buffer.from(der);
    damaged[i] = (damaged[i] ?? 0) ^ 0x41;
    assert.throws(() => parseCsr(formatPem("CERTIFICATE REQUEST", damaged)), {
      code: "CSR_INVALID",
    });
  }
});
