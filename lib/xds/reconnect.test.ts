// The table of stream ends and what follows them.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StatusName } from "../grpc/errors.ts";
import { ReconnectPolicy, type StreamEnd } from "./reconnect.ts";

const ended = (code: StatusName, details = "", opened = true): StreamEnd => ({
  kind: "status",
  opened,
  code,
  details,
});

for (const c of [
  {
    name: "refused before it opened",
    end: ended("UNAVAILABLE", "", false),
    delayMs: 20,
    reason: "ConnectionError",
  },
  {
    name: "cancelled before it opened",
    end: ended("CANCELLED", "", false),
    delayMs: 20,
    reason: "ConnectionError",
  },
  { name: "UNKNOWN", end: ended("UNKNOWN"), delayMs: 10, reason: "Reconnect" },
  { name: "CANCELLED", end: ended("CANCELLED"), delayMs: 10, reason: "Reconnect" },
  { name: "DEADLINE_EXCEEDED", end: ended("DEADLINE_EXCEEDED"), delayMs: 10, reason: "Reconnect" },
  {
    name: "transport closing",
    end: ended("UNAVAILABLE", "transport is closing"),
    delayMs: 10,
    reason: "Reconnect",
  },
  {
    name: "goaway",
    end: ended("UNAVAILABLE", "closing: received prior goaway: x"),
    delayMs: 10,
    reason: "Reconnect",
  },
  {
    name: "UNAVAILABLE otherwise",
    end: ended("UNAVAILABLE", "boom"),
    delayMs: 20,
    reason: "Error",
  },
  { name: "PERMISSION_DENIED", end: ended("PERMISSION_DENIED"), delayMs: 20, reason: "Error" },
  { name: "clean end", end: { kind: "complete" } as const, delayMs: 0, reason: "Complete" },
  {
    name: "local error",
    end: { kind: "local", details: "x" } as const,
    delayMs: 20,
    reason: "Error",
  },
])
  test(`reconnect: ${c.name}`, () => {
    const { delayMs, reason } = new ReconnectPolicy().next(c.end);
    assert.deepEqual({ delayMs, reason }, { delayMs: c.delayMs, reason: c.reason });
  });

test("delays double up to 15 s and start again after an expected end", () => {
  const policy = new ReconnectPolicy();
  const failure = ended("UNAVAILABLE", "", false);
  const delays = Array.from({ length: 13 }, () => policy.next(failure).delayMs);
  assert.deepEqual(delays.slice(0, 4), [20, 40, 80, 160]);
  assert.deepEqual(delays.slice(-3), [15_000, 15_000, 15_000]);
  assert.equal(policy.next(ended("CANCELLED")).delayMs, 10);
  assert.equal(policy.next(failure).delayMs, 20);
});
