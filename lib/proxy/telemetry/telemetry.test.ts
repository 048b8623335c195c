// The books of connections: opened and closed in pairs, refusals apart, denials and lookups by their labels.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Reactor } from "#lib/sys/reactor.ts";
import { AccessLog } from "./access-log.ts";
import type { Failure } from "./connection.ts";
import { CLIENT_RESET } from "./failures.ts";
import { HANDSHAKE_BUCKETS } from "./handshake-times.ts";
import { Telemetry } from "./telemetry.ts";
import { addr, CART, init, seriesKey } from "./test-connection.ts";

function books() {
  const reactor = { nowMs: 1_000 };
  const lines: string[] = [];
  const emit = (bytes: Uint8Array): number => lines.push(Buffer.from(bytes).toString());
  const log = new AccessLog({ level: "info", format: "plain", emit });
  const telemetry = new Telemetry(reactor as Reactor, log);
  const counts = (): unknown =>
    telemetry.traffic
      .snapshot()
      .map(({ labels, opened, closed, failed }) => [labels[21], opened, closed, failed]);
  const event = () => telemetry.events.since(0).at(-1) ?? assert.fail();
  return { telemetry, reactor, lines, counts, event };
}

const DENIED: Failure = {
  flag: "DENY",
  reason: "policy_explicit_deny",
  detail: "denied by policy shop/no",
  policy: "shop/no",
};

test("a connection that ends well is opened and closed in one series", () => {
  const { telemetry, reactor, counts, event } = books();
  const c = telemetry.open(seriesKey(), init());
  assert.equal(event().event, "open");
  c.countedBy({ bytesSent: 3, bytesReceived: 4 });
  reactor.nowMs = 1_500;
  telemetry.close(c, null);
  assert.deepEqual(counts(), [["-", 1, 1, 0]]);
  const { event: kind, flags, durationMs, txBytes, rxBytes, reason } = event();
  assert.deepEqual(
    [kind, flags, durationMs, txBytes, rxBytes, reason],
    ["close", "-", 500, 3, 4, undefined],
  );
});

for (const [name, failure, want, kind] of [
  [
    "denied",
    DENIED,
    [
      ["-", 1, 0, 0],
      ["DENY", 0, 1, 1],
    ],
    "deny",
  ],
  [
    "failed",
    { flag: "CONNECT", reason: "connect_failed", detail: "x" },
    [
      ["-", 1, 0, 0],
      ["CONNECT", 0, 1, 1],
    ],
    "error",
  ],
  [
    "cut by a drain, which is no failure",
    { flag: "-", reason: "drained", detail: "x" },
    [["-", 1, 1, 0]],
    "error",
  ],
  ["reset by its client, which is weather", CLIENT_RESET, [["-", 1, 1, 0]], "close"],
] as const)
  test(`a connection ${name}`, () => {
    const { telemetry, counts, event } = books();
    telemetry.close(telemetry.open(seriesKey(), init()), failure);
    assert.deepEqual(counts(), want);
    assert.deepEqual([event().event, event().reason], [kind, failure.reason]);
  });

test("a refusal is a line and an event, and moves no counter", () => {
  const { telemetry, lines, counts, event } = books();
  const failure: Failure = { flag: "CONNECT", reason: "self_call", detail: "the proxy itself" };
  telemetry.refuse("inbound", addr("10.0.0.9:5"), null, failure);
  telemetry.log.flush();
  assert.deepEqual(counts(), []);
  assert.match(lines.join(""), /\twarn\taccess\tconnection failed\t.*reason="self_call"/);
  assert.deepEqual(
    [event().event, event().source.address, event().destination.address, event().detail],
    ["error", "10.0.0.9:5", "", "the proxy itself"],
  );
});

test("denials are counted by policy, reason and ends", () => {
  const { telemetry } = books();
  for (let n = 0; n < 3; n++) telemetry.close(telemetry.open(seriesKey(), init()), DENIED);
  const { policy: _, ...unmatched } = { ...DENIED, reason: "policy_no_allow_match" as const };
  const unknown = { sourceIdentity: null, destinationWorkload: null };
  telemetry.close(telemetry.open(seriesKey(), init(unknown)), unmatched);
  assert.deepEqual(telemetry.denials.snapshot(), [
    {
      labels: [
        "no",
        "shop",
        "policy_explicit_deny",
        "spiffe://cluster.local/ns/shop/sa/cart",
        "stock",
      ],
      count: 3,
    },
    { labels: ["none", "unknown", "policy_no_allow_match", "unknown", "unknown"], count: 1 },
  ]);
});

test("label sets are bounded in number; those known go on counting", () => {
  const { telemetry } = books();
  for (let n = 0; n < 10_050; n++) telemetry.denials.count([`${n}`]);
  telemetry.denials.count(["0"]);
  const all = telemetry.denials.snapshot();
  assert.equal(all.length, 10_000);
  assert.equal(all[0]?.count, 2);
});

test("lookups by name are counted for their source", () => {
  const { telemetry } = books();
  telemetry.lookedUp(CART, "db.example");
  telemetry.lookedUp(CART, "db.example");
  const [series] = telemetry.onDemandDns.snapshot();
  assert.equal(series?.count, 2);
  assert.deepEqual(
    [series?.labels[0], series?.labels[4], series?.labels.at(-1)],
    ["cart", "spiffe://cluster.local/ns/shop/sa/cart", "db.example"],
  );
});

test("handshakes fall into the bucket that holds them, by role and outcome", () => {
  const { telemetry } = books();
  for (const ms of [0, 1, 1.5, 30, 10_000, 10_001]) telemetry.onHandshake("client", "ok", ms);
  telemetry.onHandshake("server", "tls", 7);
  const [ok, failed] = telemetry.handshakes.snapshot();
  const at = (bound: number): number => HANDSHAKE_BUCKETS.findIndex((b) => b === bound);
  assert.equal(ok?.counts[at(0.001)], 2);
  assert.equal(ok?.counts[at(0.0025)], 1);
  assert.equal(ok?.counts[at(0.05)], 1);
  assert.equal(ok?.counts[at(10)], 1);
  assert.equal(ok?.counts[HANDSHAKE_BUCKETS.length], 1);
  assert.ok(Math.abs((ok?.sumSeconds ?? 0) - 20.0335) < 1e-9);
  assert.deepEqual([failed?.role, failed?.outcome], ["server", "tls"]);
  telemetry.onHandshake("server", "tls", 7);
  assert.equal(failed?.counts[at(0.01)], 1, "a snapshot stands still");
});
