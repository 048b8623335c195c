// What goes into a report: nothing secret, in an archive that tar reads.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { redactObject, redactText, withoutEnvironment } from "./redact.ts";
import { tar } from "./tar.ts";

for (const [name, text] of [
  ["a token", "token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlc2ln."],
  ["a key", "-----BEGIN EC PRIVATE KEY-----\nc2lnbmF0dXJlc2ln\n-----END EC PRIVATE KEY-----"],
  ["a cut key", "-----BEGIN PRIVATE KEY-----\nc2lnbmF0dXJlc2ln"],
  ["a header", "authorization: Bearer c2lnbmF0dXJlc2ln"],
  ["a URL", "https://me:c2lnbmF0dXJlc2ln@host/path"],
] as const)
  test(`${name} is blotted out of text`, () => {
    assert.doesNotMatch(redactText(`before ${text} after`), /c2lnbmF0dXJlc2ln/);
    assert.match(redactText(`before ${text} after`), /^before .*REDACTED/s);
  });

test("objects lose secret values and copies of themselves, and keep the rest", () => {
  const o = {
    metadata: {
      name: "x",
      annotations: {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "example.org/api-key": "c2VjcmV0",
        note: "kept",
      },
    },
    spec: {
      serviceAccountToken: { audience: "istio-ca" },
      containers: [
        {
          env: [
            { name: "DB_PASSWORD", value: "c2VjcmV0" },
            { name: "LOG", value: "info" },
          ],
        },
      ],
    },
  };
  const clean = redactObject(o);
  const text = JSON.stringify(clean);
  assert.doesNotMatch(text, /c2VjcmV0|last-applied/);
  assert.match(text, /"note":"kept".*"audience":"istio-ca".*"value":"info"/);
  assert.doesNotMatch(JSON.stringify(withoutEnvironment(clean)), /"info"/);
});

test("tar lists and extracts what was put in, long names too", (t) => {
  const long = `${"d".repeat(90)}/${"f".repeat(90)}.json`;
  const archive = tar(
    [
      { path: "a.txt", content: "hello\n" },
      { path: long, content: "x".repeat(1000) },
    ],
    Date.UTC(2026, 0, 1),
  );
  const listed = spawnSync("tar", ["tf", "-"], { input: archive });
  if (listed.error !== undefined) return t.skip("no tar on this machine");
  assert.equal(listed.stdout.toString(), `a.txt\n${long}\n`);
  const out = spawnSync("tar", ["xf", "-", "-O", "a.txt"], { input: archive });
  assert.equal(out.stdout.toString(), "hello\n");
  assert.throws(() => tar([{ path: "n".repeat(200), content: "" }], 0), RangeError);
});
