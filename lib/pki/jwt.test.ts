// Tokens good and bad, each bad one told apart.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT, type JWTPayload } from "jose";
import { TokenVerifier } from "./jwt.ts";

const NOW = 1_800_000_000_000;
const SECONDS = NOW / 1000;

const CLAIMS: JWTPayload = {
  iss: "https://issuer",
  aud: ["istio-ca"],
  sub: "system:serviceaccount:istio-system:ztunnel",
  iat: SECONDS - 10,
  exp: SECONDS + 3600,
  "kubernetes.io": {
    namespace: "istio-system",
    serviceaccount: { name: "ztunnel", uid: "s" },
    pod: { name: "ztunnel-x", uid: "u-1" },
    node: { name: "n" },
  },
};

async function issuer(t: TestContext) {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const dir = mkdtempSync(join(tmpdir(), "jwks-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const jwksFile = join(dir, "jwks.json");
  writeFileSync(
    jwksFile,
    JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "1" }] }),
  );
  const verifier = new TokenVerifier({
    jwksFile,
    audiences: ["istio-ca"],
    issuer: "https://issuer",
    now: () => NOW,
  });
  const sign = (change: JWTPayload = {}, kid = "1", key = privateKey): Promise<string> =>
    new SignJWT({ ...CLAIMS, ...change }).setProtectedHeader({ alg: "ES256", kid }).sign(key);
  return { verifier, sign, jwksFile };
}

test("a pod's token names its account and pod", async (t) => {
  const { verifier, sign } = await issuer(t);
  assert.deepEqual(await verifier.verify(await sign()), {
    namespace: "istio-system",
    serviceAccount: "ztunnel",
    podName: "ztunnel-x",
    podUid: "u-1",
  });
});

test("a token without a pod is an account's", async (t) => {
  const { verifier, sign } = await issuer(t);
  const caller = await verifier.verify(await sign({ "kubernetes.io": undefined }));
  assert.equal(caller.podName, null);
});

for (const [name, change, problem] of [
  ["expired", { exp: SECONDS - 60 }, "expired"],
  ["without expiry", { exp: undefined }, "malformed"],
  ["not yet valid", { nbf: SECONDS + 60 }, "not-yet-valid"],
  ["another audience", { aud: ["kubernetes"] }, "wrong-audience"],
  ["no audience", { aud: undefined }, "wrong-audience"],
  ["another issuer", { iss: "https://evil" }, "wrong-issuer"],
  ["a person", { sub: "alice" }, "not-a-service-account"],
  ["too many parts", { sub: "system:serviceaccount:a:b:c" }, "not-a-service-account"],
  ["a slash in a name", { sub: "system:serviceaccount:a:b/sa/c" }, "not-a-service-account"],
  ["claims that disagree", { sub: "system:serviceaccount:shop:cart" }, "not-a-service-account"],
] as const)
  test(`refused: ${name}`, async (t) => {
    const { verifier, sign } = await issuer(t);
    await assert.rejects(verifier.verify(await sign(change as JWTPayload)), { problem });
  });

test("refused: a signature of another key, an unknown key, none at all", async (t) => {
  const { verifier, sign } = await issuer(t);
  const { privateKey } = await generateKeyPair("ES256");
  await assert.rejects(verifier.verify(await sign({}, "1", privateKey)), {
    problem: "bad-signature",
  });
  await assert.rejects(verifier.verify(await sign({}, "2", privateKey)), {
    problem: "unknown-key",
  });
  const unsigned = new UnsecuredJWT(CLAIMS).encode();
  await assert.rejects(verifier.verify(unsigned), { problem: "malformed" });
  await assert.rejects(verifier.verify("x.y"), { problem: "malformed" });
  await assert.rejects(verifier.verify("x".repeat(20_000)), { problem: "malformed" });
});

test("the public key is no shared secret", async (t) => {
  const { verifier } = await issuer(t);
  const token = await new SignJWT(CLAIMS)
    .setProtectedHeader({ alg: "HS256", kid: "1" })
    .sign(Buffer.from("0123456789abcdef0123456789abcdef"));
  await assert.rejects(verifier.verify(token), { problem: "malformed" });
});

test("new keys are picked up, and a broken file keeps the old ones", async (t) => {
  const { verifier, sign, jwksFile } = await issuer(t);
  await verifier.verify(await sign());
  writeFileSync(jwksFile, "{");
  await verifier.verify(await sign());
  const next = await generateKeyPair("ES256");
  writeFileSync(
    jwksFile,
    JSON.stringify({ keys: [{ ...(await exportJWK(next.publicKey)), kid: "9" }] }),
  );
  utimesSync(jwksFile, 1, 1);
  await verifier.verify(await sign({}, "9", next.privateKey));
  await assert.rejects(verifier.verify(await sign()), { problem: "unknown-key" });
});

test("without keys nothing is verified", async () => {
  const verifier = new TokenVerifier({
    jwksFile: "/nonexistent/jwks.json",
    audiences: ["a"],
    issuer: null,
    now: () => NOW,
  });
  await assert.rejects(verifier.verify("a.b.c"), { code: "JWKS_INVALID" });
});
