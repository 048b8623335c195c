// A refusal in one line of the demo.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import { denialText } from "./event-tap.ts";

const EVENT: TunnelEvent = {
  seq: 1,
  time: "2026-06-01T12:00:00Z",
  event: "deny",
  direction: "inbound",
  source: { identity: "spiffe://cluster.local/ns/shop/sa/visitor", address: "10.0.0.1:1" },
  destination: { service: "server.shop.svc.cluster.local", address: "10.0.0.2:80" },
  policy: { namespace: "shop", name: "no-visitors" },
};
const ENDS = "deny spiffe://cluster.local/ns/shop/sa/visitor → server.shop.svc.cluster.local: ";

for (const [detail, want] of [
  ["denied by policy shop/no-visitors", "denied by policy shop/no-visitors"],
  [undefined, "policy_explicit_deny (policy shop/no-visitors)"],
  ["answered 401", "answered 401 (policy shop/no-visitors)"],
] as const)
  test(`the demo names a denial's policy once: ${detail ?? "no detail"}`, () => {
    const event = { ...EVENT, reason: "policy_explicit_deny" as const };
    const text = denialText(detail === undefined ? event : { ...event, detail });
    assert.equal(text, ENDS + want);
  });
