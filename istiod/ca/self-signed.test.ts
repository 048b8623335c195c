// The self-signed root on disk: one for all, kept, and renewed with its key.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { testCa } from "#lib/pki/test-ca.ts";
import { FileRootStore } from "./file-root-store.ts";
import { MemoryRootStore } from "./root-store.ts";
import { SelfSignedCa } from "./self-signed.ts";

const DAY = 86_400_000;
const T0 = Date.UTC(2030, 0, 1);

function setup(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "ca-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const clock = { nowMs: T0 };
  const make = (dirOrNull: string | null = join(dir, "state"), extraRootPem = ""): SelfSignedCa =>
    new SelfSignedCa({
      store: dirOrNull === null ? new MemoryRootStore() : new FileRootStore(dirOrNull),
      trustDomain: "cluster.local",
      extraRootPem,
      now: () => clock.nowMs,
    });
  return {
    path: join(dir, "state", "istio-ca-secret.pem"),
    state: join(dir, "state"),
    make,
    clock,
  };
}

test("the root is made once and kept for this user only", async (t) => {
  const { make, path, state } = setup(t);
  const first = await make().load();
  const again = await make().load();
  assert.equal(first.rootPem, again.rootPem);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(state).mode & 0o777, 0o700);
  assert.match(readFileSync(path, "utf8"), /BEGIN RSA PRIVATE KEY/);
  assert.deepEqual(readdirSync(state), ["istio-ca-secret.pem"], "no drafts are left");
  assert.equal(first.signer.certificate.x509.subject, "O=cluster.local");
  assert.deepEqual(first.chain, []);
});

test("processes that start together share one root", async (t) => {
  const { make } = setup(t);
  const bundles = await Promise.all(Array.from({ length: 5 }, () => make().load()));
  assert.equal(new Set(bundles.map((b) => b.rootPem)).size, 1);
  for (const { signer } of bundles) assert.ok(signer.certificate.x509.checkPrivateKey(signer.key));
});

test("a root with little life left is renewed with its key, and old leaves still verify", async (t) => {
  const { make, clock } = setup(t);
  const ca = make();
  const old = await ca.load();
  clock.nowMs = T0 + 2000 * DAY;
  assert.equal((await ca.load()).rootPem, old.rootPem, "55 % of its life is left");
  clock.nowMs = T0 + 3000 * DAY;
  const next = await ca.load();
  assert.notEqual(next.rootPem, old.rootPem);
  assert.ok(next.signer.key.equals(old.signer.key));
  assert.ok(old.signer.certificate.x509.verify(next.signer.certificate.x509.publicKey));
  assert.equal((await make().load()).rootPem, next.rootPem, "another replica adopts it");
});

test("a root that has expired while nobody ran is renewed at start", async (t) => {
  const { make, clock } = setup(t);
  const old = await make().load();
  clock.nowMs = T0 + 4000 * DAY;
  const next = await make().load();
  assert.ok(next.signer.key.equals(old.signer.key));
  assert.ok(next.signer.certificate.notAfterMs > clock.nowMs);
});

test("a damaged root stops the start instead of being replaced", async (t) => {
  const { make, path } = setup(t);
  await make().load();
  writeFileSync(path, "rubbish");
  await assert.rejects(make().load(), { code: "CA_STATE", message: /damaged/ });
});

test("a root that is lost while istiod runs is kept again, not replaced", async (t) => {
  const { make, path } = setup(t);
  const ca = make();
  const first = await ca.load();
  rmSync(path);
  assert.equal((await ca.load()).rootPem, first.rootPem);
  assert.equal((await make().load()).rootPem, first.rootPem);
});

test("further roots are handed out too", async (t) => {
  const { make, state } = setup(t);
  const other = await testCa(T0);
  const bundle = await make(state, other.rootPem).load();
  assert.equal(bundle.roots.length, 2);
  assert.ok(bundle.rootPem.endsWith(other.rootPem));
});

test("without a directory the root lives as long as the process", async (t) => {
  const { make } = setup(t);
  const ca = make(null);
  const first = await ca.load();
  assert.equal((await ca.load()).rootPem, first.rootPem);
});
