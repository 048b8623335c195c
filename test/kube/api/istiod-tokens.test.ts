// Who may ask istiod for what: real service account tokens, good and bad, and the reason of each refusal.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { decodeJwt, importPKCS8, SignJWT } from "jose";
import { parseSpiffeId } from "#lib/net/spiffe.ts";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { createCsr } from "#lib/pki/csr.ts";
import { createPrivateKey } from "node:crypto";
import { ControlPlane } from "../control-plane.ts";
import {
  account,
  IstiodRun,
  namespaced,
  put,
  runningPod,
  SYSTEM,
  until,
  ZTUNNEL,
} from "./istiod-run.ts";

const AUDIENCES = ["istio-ca"];
const CART = "spiffe://cluster.local/ns/shop/sa/cart";
const PAY = "spiffe://cluster.local/ns/shop/sa/pay";

let api: ControlPlane;
let istiod: IstiodRun;

before(async () => {
  api = await ControlPlane.start({ auditLog: true });
  await put(api, namespaced(SYSTEM), namespaced("shop"));
  await put(api, account(SYSTEM, "ztunnel"), account("shop", "cart"), account("shop", "pay"));
  await put(
    api,
    runningPod(SYSTEM, "ztunnel-1", { account: "ztunnel", node: "worker-1", ip: "10.244.1.2" }),
    runningPod("shop", "cart-1", { account: "cart", node: "worker-1", ip: "10.244.1.7" }),
    runningPod("shop", "pay-1", { account: "pay", node: "worker-2", ip: "10.244.2.7" }),
  );
  istiod = await IstiodRun.start(api);
});
after(async () => {
  await istiod[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

/** @returns the URI of the certificate, or why there is none */
async function ask(token: string, impersonate?: string): Promise<string> {
  using client = istiod.caClient(token);
  const { csrPem } = await createCsr(parseSpiffeId(CART));
  const order = { csrPem, ttlSeconds: 3600 };
  try {
    const chain = await client.createCertificate(
      impersonate === undefined ? order : { ...order, impersonate },
    );
    return parseCertificate(chain[0] ?? "").uriSans[0] ?? "";
  } catch (error) {
    return `${(error as { code: string }).code} ${(error as { details: string }).details}`;
  }
}

const ofNode = (): Promise<string> =>
  api.serviceAccountToken({ ...ZTUNNEL, audiences: AUDIENCES, pod: "ztunnel-1" });
const lastReason = (message: string): unknown => istiod.lines(message).at(-1)?.["reason"];
const NOBODY = "UNAUTHENTICATED request authenticate failure";
const NOT_FOR_YOU = "UNAUTHENTICATED request impersonation authentication failure";

test("a node proxy gets the identities of the pods of its node, and of no other", async () => {
  const token = await ofNode();
  assert.equal(await ask(token, CART), CART);
  assert.equal(await ask(token, PAY), NOT_FOR_YOU);
  const refused = istiod.lines("identity refused").at(-1);
  assert.equal(refused?.["why"], "identity-not-on-node");
  assert.equal(refused?.["node"], "worker-1");
  assert.equal(refused?.["wanted"], PAY);
});

test("a pod gets its own identity, and no other", async () => {
  const token = await api.serviceAccountToken({
    namespace: "shop",
    name: "cart",
    audiences: AUDIENCES,
    pod: "cart-1",
  });
  assert.equal(await ask(token), CART);
  assert.equal(await ask(token, CART), NOT_FOR_YOU);
  assert.equal(istiod.lines("identity refused").at(-1)?.["why"], "caller-not-trusted");
});

test("a token of another audience is refused, with the reason in the log", async () => {
  const token = await api.serviceAccountToken({
    ...ZTUNNEL,
    audiences: ["https://kubernetes.default.svc"],
  });
  assert.equal(await ask(token, CART), NOBODY);
  assert.equal(lastReason("authentication failed"), "wrong-audience");
});

test("a token that has ended is refused, with the reason in the log", async () => {
  const claims = decodeJwt(await ofNode());
  const nowSeconds = Math.floor(Date.now() / 1000);
  const ended = { ...claims, iat: nowSeconds - 7200, nbf: nowSeconds - 7200, exp: nowSeconds - 60 };
  assert.equal(await ask(await signed(ended), CART), NOBODY);
  assert.equal(lastReason("authentication failed"), "expired");
});

test("a token signed by somebody else, or none at all, is refused", async () => {
  assert.equal(await ask(`${(await ofNode()).slice(0, -8)}AAAAAAAA`, CART), NOBODY);
  assert.equal(lastReason("authentication failed"), "not-valid");
  assert.equal(await ask("nonsense", CART), NOBODY);
  assert.equal(lastReason("authentication failed"), "malformed");
});

test("the token of a pod that is gone is refused, though it has not ended", async () => {
  await put(api, runningPod(SYSTEM, "ztunnel-2", { account: "ztunnel", ip: "10.244.1.3" }));
  const token = (pod: string): Promise<string> =>
    api.serviceAccountToken({ ...ZTUNNEL, audiences: AUDIENCES, pod });
  const used = await token("ztunnel-2");
  await until("the pod is known", async () => (await ask(used, CART)) === CART);
  const unused = await token("ztunnel-2");
  await api.kubectl(["delete", "pod", "ztunnel-2", "-n", SYSTEM, "--force", "--grace-period=0"]);
  assert.equal(await ask(unused, CART), NOBODY);
  assert.equal(lastReason("authentication failed"), "not-valid");
  // The API server stands by an answer for ten seconds; the pods that istiod knows do not.
  await until("a refusal", async () => (await ask(used, CART)) === NOT_FOR_YOU);
  assert.equal(istiod.lines("identity refused").at(-1)?.["why"], "caller-pod-unknown");
});

test("a token that names no pod proves an account, but no node", async () => {
  const token = await api.serviceAccountToken({ ...ZTUNNEL, audiences: AUDIENCES });
  assert.equal(await ask(token, CART), NOT_FOR_YOU);
  assert.equal(istiod.lines("identity refused").at(-1)?.["why"], "caller-pod-unknown");
});

test("no token, no private key and no secret is in the log or on a page", async () => {
  const token = await ofNode();
  await ask(token, CART);
  const secret = await api.kubectl([
    "get",
    "secret",
    "istio-ca-secret",
    "-n",
    SYSTEM,
    "-o",
    "json",
  ]);
  const { data } = JSON.parse(secret.stdout) as { data: Record<string, string> };
  const key = Buffer.from(data["ca-key.pem"] ?? "", "base64").toString();
  assert.match(key, /BEGIN RSA PRIVATE KEY/);
  const pages = await Promise.all(
    ["/debug/configz", "/debug/adsz", "/debug/ambientz", "/metrics"].map(async (path) =>
      (await istiod.get(path)).text(),
    ),
  );
  const everything = [...istiod.text, ...pages].join("\n");
  for (const part of [token.split(".")[2] ?? "", ...key.split("\n").slice(1, -2)])
    assert.ok(part.length > 20 && !everything.includes(part));
});

/** By the cluster's own key: what the API server would say of itself. */
async function signed(claims: object): Promise<string> {
  const key = createPrivateKey(readFileSync(api.serviceAccountKeyFile));
  const pkcs8 = key.export({ type: "pkcs8", format: "pem" }).toString();
  const algorithm = key.asymmetricKeyType === "ec" ? "ES256" : "RS256";
  return new SignJWT({ ...claims })
    .setProtectedHeader({ alg: algorithm })
    .sign(await importPKCS8(pkcs8, algorithm));
}
