// A plugged-in CA on disk, whole and broken.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { loadPluggedInCa } from "./ca-files.ts";
import { issueCa } from "./issue.ts";
import { generateEcKey, generateRsaKey } from "./keys.ts";
import { testCa } from "./test-ca.ts";

const NOW = Date.now();
const DAY = 86_400_000;

async function material() {
  const root = await testCa(NOW, "root");
  const keys = await generateRsaKey();
  const signer = await issueCa(root.signer, {
    organization: "signer",
    keys,
    notBeforeMs: NOW - 1000,
    notAfterMs: NOW + DAY,
  });
  return {
    root: root.rootPem,
    cert: signer.pem,
    key: keys.privateKey.export({ type: "pkcs1", format: "pem" }).toString(),
  };
}

function dirWith(t: TestContext, files: Record<string, string>): string {
  const dir = mkdtempSync(join(tmpdir(), "cacerts-"));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

test("Istio's layout", async (t) => {
  const m = await material();
  const dir = dirWith(t, {
    "ca-cert.pem": m.cert,
    "ca-key.pem": m.key,
    "root-cert.pem": m.root,
    "cert-chain.pem": m.cert + m.root,
  });
  const loaded = await loadPluggedInCa(dir, NOW);
  assert.deepEqual(loaded?.warnings, []);
  assert.deepEqual(
    loaded?.bundle.chain.map((c) => c.pem),
    [m.cert],
  );
  assert.equal(loaded?.bundle.rootPem, m.root);
});

test("the layout of a TLS Secret wins when present", async (t) => {
  const m = await material();
  const dir = dirWith(t, { "tls.crt": m.cert, "tls.key": m.key, "ca.crt": m.root });
  const loaded = await loadPluggedInCa(dir, NOW);
  assert.deepEqual(
    loaded?.bundle.chain.map((c) => c.pem),
    [m.cert],
  );
});

test("a chain file without the signing certificate is completed, with a warning", async (t) => {
  const m = await material();
  const dir = dirWith(t, {
    "ca-cert.pem": m.cert,
    "ca-key.pem": m.key,
    "root-cert.pem": m.root,
    "cert-chain.pem": m.root,
  });
  const loaded = await loadPluggedInCa(dir, NOW);
  assert.equal(loaded?.warnings.length, 1);
  assert.deepEqual(
    loaded?.bundle.chain.map((c) => c.pem),
    [m.cert],
  );
});

test("no files, no directory, or extra roots only: no plugged-in CA", async (t) => {
  const m = await material();
  assert.equal(await loadPluggedInCa(dirWith(t, {}), NOW), null);
  assert.equal(await loadPluggedInCa("/nonexistent/cacerts", NOW), null);
  assert.equal(await loadPluggedInCa(dirWith(t, { "root-cert.pem": m.root }), NOW), null);
});

for (const [name, change, message] of [
  ["half a set", { "cert-chain.pem": null }, /lacks cert-chain\.pem/],
  ["a key of something else", { "ca-key.pem": "other" }, /does not belong/],
  ["a signing certificate that is no CA", { "ca-cert.pem": "leaf" }, /not a CA/],
  ["another root", { "root-cert.pem": "otherRoot" }, /No issuer found/],
  ["an empty root bundle", { "root-cert.pem": "" }, /no certificate/],
  ["a key that is none", { "ca-key.pem": "rubbish" }, /ca-key\.pem: Cannot parse private key/],
] as const)
  test(`refused: ${name}`, async (t) => {
    const m = await material();
    const other = await generateEcKey();
    const stranger = await testCa(NOW);
    const { testPair } = await import("./test-ca.ts");
    const texts: Record<string, string> = {
      other: other.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      leaf: (await testPair(stranger, ["x.y"])).certChainPem,
      otherRoot: stranger.rootPem,
    };
    const files: Record<string, string> = {
      "ca-cert.pem": m.cert,
      "ca-key.pem": m.key,
      "root-cert.pem": m.root,
      "cert-chain.pem": m.cert,
    };
    for (const [file, to] of Object.entries(change as Record<string, string | null>))
      if (to === null) delete files[file];
      else files[file] = texts[to] ?? to;
    await assert.rejects(loadPluggedInCa(dirWith(t, files), NOW), {
      code: "CA_FILES_INVALID",
      message,
    });
  });

test("an expired signing certificate is refused", async (t) => {
  const m = await material();
  const dir = dirWith(t, { "tls.crt": m.cert, "tls.key": m.key, "ca.crt": m.root });
  await assert.rejects(loadPluggedInCa(dir, NOW + 2 * DAY), { code: "CA_FILES_INVALID" });
});
