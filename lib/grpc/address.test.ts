// Server addresses as operators write them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { grpcTarget, parseServerAddress } from "./address.ts";

for (const [text, host, port, target] of [
  [
    "https://istiod.istio-system.svc:15012",
    "istiod.istio-system.svc",
    15_012,
    "dns:istiod.istio-system.svc:15012",
  ],
  [
    "istiod.istio-system.svc:15012",
    "istiod.istio-system.svc",
    15_012,
    "dns:istiod.istio-system.svc:15012",
  ],
  ["https://10.0.0.1:15012/", "10.0.0.1", 15_012, "dns:10.0.0.1:15012"],
  ["https://[fd00::1]:15012", "fd00::1", 15_012, "dns:[fd00::1]:15012"],
  ["localhost", "localhost", 443, "dns:localhost:443"],
] as const)
  test(`address: ${text}`, () => {
    const address = parseServerAddress(text);
    assert.deepEqual(address, { host, port });
    assert.equal(grpcTarget(address), target);
  });

for (const text of [
  "",
  "http://istiod:15010",
  "https://a/b",
  "https://user@a:1",
  "https://a:99999",
  "tcp://a:1",
])
  test(`address: ${JSON.stringify(text)} is refused`, () => {
    assert.throws(() => parseServerAddress(text), { code: "INVALID_ARGUMENT" });
  });
