// The plugin's token: asked for, kept, replaced in time, and what happens when there is none to have.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { KubeError } from "#lib/kube/errors.ts";
import { accountOf, PluginToken, type MintedToken } from "./plugin-token.ts";
import { TestNodeDirs } from "./test-node.ts";

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const OWN = `x.${encode({ sub: "system:serviceaccount:istio-system:istio-cni" })}.y`;

function token(dirs: TestNodeDirs, mint: (() => Promise<MintedToken>) | null) {
  dirs.token(`${OWN}\n`);
  const lines: string[] = [];
  const now = { ms: 1_000 };
  const source = new PluginToken({
    serviceAccountDir: dirs.path("sa"),
    mint,
    clock: { now: () => now.ms, sleep: () => Promise.resolve() },
    log: pino({ level: "warn" }, { write: (line) => void lines.push(line) }),
  });
  return { source, now, lines };
}

test("a token is kept for a fifth of its life, and used while the next cannot be had", async () => {
  using dirs = new TestNodeDirs();
  let minted = 0;
  let isDown = false;
  const { source, now } = token(dirs, () =>
    isDown
      ? Promise.reject(new KubeError("UNAVAILABLE", "down"))
      : Promise.resolve({ token: `t${++minted}`, expiresMs: now.ms + 100_000 }),
  );
  assert.equal(await source.current(), "t1");
  now.ms += 19_999;
  assert.equal(await source.current(), "t1");
  now.ms += 1;
  assert.equal(await source.current(), "t2");
  isDown = true;
  now.ms += 99_000;
  assert.equal(await source.current(), "t2");
  now.ms += 1_000;
  assert.equal(await source.current(), OWN, "ours rather than one that has ended");
});

test("without the right to ask, the agent's own has to do, which is said once", async () => {
  using dirs = new TestNodeDirs();
  let asked = 0;
  const { source, now, lines } = token(dirs, () => {
    asked++;
    return Promise.reject(new KubeError("FORBIDDEN", "no"));
  });
  assert.equal(await source.current(), OWN);
  now.ms += 599_999;
  assert.equal(await source.current(), OWN);
  assert.equal(asked, 1);
  now.ms += 1;
  await source.current();
  assert.equal(asked, 2);
  assert.equal(lines.length, 1);
  assert.doesNotMatch(lines.join(), new RegExp(OWN.slice(0, 20)), "no token in the log");
});

test("without an API server, or with a token that is none of a service account", async () => {
  using dirs = new TestNodeDirs();
  assert.equal(await token(dirs, null).source.current(), OWN);
  let asked = 0;
  const { source } = token(dirs, () => Promise.reject(new Error(`asked ${++asked}`)));
  dirs.token("opaque");
  assert.equal(await source.current(), "opaque");
  assert.equal(asked, 0);
  dirs.token("");
  await assert.rejects(source.current(), /is empty/);
});

for (const text of [
  "",
  "a",
  "a.b.c",
  `x.${encode({ sub: "system:node:n" })}.y`,
  `x.${encode(5)}.y`,
])
  test(`no account in ${JSON.stringify(text)}`, () => assert.equal(accountOf(text), null));

test("the account of a token", () =>
  assert.deepEqual(accountOf(OWN), { namespace: "istio-system", name: "istio-cni" }));
