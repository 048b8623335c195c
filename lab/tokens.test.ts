import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from "jose";
import { ProjectedToken, TOKEN_AUDIENCE, TOKEN_ISSUER, TokenIssuer } from "./tokens.ts";

const SUBJECT = {
  namespace: "istio-system",
  serviceAccount: "ztunnel",
  pod: { name: "ztunnel-a", uid: "uid-1" },
  node: { name: "a" },
};

test("tokens: claims of a projected token, verifiable with the published keys", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-token-"));
  try {
    const jwksFile = join(dir, "keys", "jwks.json");
    const issuer = await TokenIssuer.create(jwksFile);
    using token = await ProjectedToken.create(issuer, join(dir, "tokens", "t"), SUBJECT, {
      ttlSeconds: 600,
    });
    const text = readFileSync(token.file, "utf8");
    const keys = JSON.parse(readFileSync(jwksFile, "utf8")) as JSONWebKeySet;
    assert.ok(
      keys.keys.every((k) => k["d"] === undefined),
      "only the public half",
    );
    const { payload } = await jwtVerify(text, createLocalJWKSet(keys), {
      audience: TOKEN_AUDIENCE,
      issuer: TOKEN_ISSUER,
    });
    assert.equal(payload.sub, "system:serviceaccount:istio-system:ztunnel");
    assert.equal((payload.exp ?? 0) - (payload.iat ?? 0), 600);
    const bound = payload["kubernetes.io"] as Record<string, unknown>;
    assert.deepEqual(
      [bound["namespace"], bound["pod"], bound["node"]],
      ["istio-system", SUBJECT.pod, SUBJECT.node],
    );
    assert.equal(statSync(token.file).mode & 0o777, 0o600);
    await token.rotate();
    assert.notEqual(readFileSync(token.file, "utf8"), text);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
