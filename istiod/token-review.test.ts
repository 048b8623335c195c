// What becomes of the API server's answers. Real tokens: test/kube/api/istiod-tokens.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { UnsecuredJWT } from "jose";
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { TokenReviewer } from "./token-review.ts";

const NOW = Date.UTC(2030, 0, 1);
const ACCOUNT = "system:serviceaccount:istio-system:ztunnel";
const GROUPS = ["system:serviceaccounts", "system:authenticated"];

function reviewer(answer: () => object | Promise<object>) {
  const asked: unknown[] = [];
  const fake = {
    request: async (request: {
      readonly body: unknown;
      readonly signal: AbortSignal;
    }): Promise<unknown> => {
      asked.push(request.body);
      const ended = Promise.withResolvers<never>();
      request.signal.addEventListener("abort", () => ended.reject(request.signal.reason));
      return { status: await Promise.race([answer(), ended.promise]) };
    },
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- all that a review asks of it
  const apiServer = fake as unknown as ApiServer;
  const now = (): number => NOW;
  const audiences = ["istio-ca"];
  const reviews = new TokenReviewer({ apiServer, audiences, now, deadlineMs: 50 });
  return { reviews, asked };
}

const accepted = (username = ACCOUNT, extra: object = {}, groups = GROUPS) => ({
  authenticated: true,
  audiences: ["istio-ca"],
  user: { username, uid: "u", groups, extra },
});

const token = (claims: object): string => new UnsecuredJWT({ ...claims }).encode();

test("the caller is the account, with the pod and node the server knows of", async () => {
  const about = (key: string): string => `authentication.kubernetes.io/${key}`;
  const extra = {
    [about("pod-name")]: ["ztunnel-x"],
    [about("pod-uid")]: ["1"],
    [about("node-name")]: ["worker-1"],
  };
  const { reviews, asked } = reviewer(() => accepted(ACCOUNT, extra));
  assert.deepEqual(await reviews.verify("t"), {
    namespace: "istio-system",
    serviceAccount: "ztunnel",
    podName: "ztunnel-x",
    podUid: "1",
    nodeName: "worker-1",
  });
  const [body] = asked as [{ spec: object }];
  assert.deepEqual(body.spec, { token: "t", audiences: ["istio-ca"] });
});

for (const c of [
  { name: "a person", answer: accepted("jane"), reason: "not-a-service-account" },
  {
    name: "an account without the group",
    answer: accepted(ACCOUNT, {}, []),
    reason: "not-a-service-account",
  },
  {
    name: "a name with a slash",
    answer: accepted("system:serviceaccount:a:b/c"),
    reason: "not-a-service-account",
  },
  {
    name: "a server that knows no audiences",
    answer: { ...accepted(), audiences: [] },
    token: token({ aud: "istio-ca", exp: NOW / 1000 + 1 }),
    reason: "not-valid",
  },
  {
    name: "another audience",
    answer: { authenticated: false, error: "e" },
    token: token({ aud: ["other"], exp: NOW / 1000 + 1 }),
    reason: "wrong-audience",
  },
  {
    name: "past its end",
    answer: { authenticated: false, error: "e" },
    token: token({ aud: ["istio-ca"], exp: NOW / 1000 - 1 }),
    reason: "expired",
  },
  {
    name: "refused though it says nothing wrong",
    answer: { authenticated: false, error: "e" },
    token: token({ aud: ["istio-ca"], exp: NOW / 1000 + 1 }),
    reason: "not-valid",
  },
  { name: "no token at all", answer: { authenticated: false }, token: "x", reason: "malformed" },
  { name: "an empty one", answer: accepted(), token: "", reason: "malformed" },
  { name: "a large one", answer: accepted(), token: "x".repeat(20_000), reason: "malformed" },
])
  test(`refused: ${c.name}`, async () => {
    const { reviews } = reviewer(() => c.answer);
    await assert.rejects(reviews.verify(c.token ?? "t"), { reason: c.reason });
  });

test("questions asked at once are one, and no answer is kept", async () => {
  const { reviews, asked } = reviewer(() => accepted());
  await Promise.all([reviews.verify("t"), reviews.verify("t"), reviews.verify("u")]);
  assert.equal(asked.length, 2);
  await reviews.verify("t");
  assert.equal(asked.length, 3);
});

test("a server that cannot be asked is no refusal", async () => {
  const { reviews } = reviewer(() => Promise.reject(new KubeError("UNAVAILABLE", "gone")));
  await assert.rejects(reviews.verify("t"), { code: "UNAVAILABLE" });
});

test("a server that does not answer is given up", async () => {
  const { reviews } = reviewer(() => new Promise(() => {}));
  const alive = setTimeout(() => {}, 5_000);
  await assert.rejects(reviews.verify("t"), { code: "TIMEOUT" });
  clearTimeout(alive);
});
