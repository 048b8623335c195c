import assert from "node:assert/strict";
import { test } from "node:test";
import {
  parseSpiffeId,
  principalOf,
  SpiffeError,
  spiffeId,
  spiffeParts,
  tryParseSpiffeId,
} from "./spiffe.ts";

const TEXT = "spiffe://cluster.local/ns/shop/sa/cart";

test("an identity, its parts and its principal", () => {
  const id = parseSpiffeId(TEXT);
  assert.deepEqual(spiffeParts(id), {
    trustDomain: "cluster.local",
    namespace: "shop",
    serviceAccount: "cart",
  });
  assert.equal(principalOf(id), "cluster.local/ns/shop/sa/cart");
  assert.equal(spiffeId(spiffeParts(id)), TEXT);
});

for (const text of [
  "",
  "cluster.local/ns/shop/sa/cart",
  "SPIFFE://cluster.local/ns/shop/sa/cart",
  "spiffe://cluster.local/ns/shop/sa",
  "spiffe://cluster.local/ns/shop/sa/cart/x",
  "spiffe://cluster.local/sa/shop/ns/cart",
  "spiffe://cluster.local/workload",
  "https://cluster.local/ns/shop/sa/cart",
])
  test(`refuses ${JSON.stringify(text)}`, () => {
    assert.equal(tryParseSpiffeId(text), null);
    assert.throws(() => parseSpiffeId(text), SpiffeError);
  });
