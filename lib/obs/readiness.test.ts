import assert from "node:assert/strict";
import { test } from "node:test";
import { Readiness } from "./readiness.ts";

test("ready when every blocker is gone, and blocked again by a new one", () => {
  const readiness = new Readiness();
  assert.deepEqual(readiness.pending(), []);
  const proxy = readiness.block("proxy");
  const first = readiness.block("dns proxy");
  const second = readiness.block("dns proxy");
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.deepEqual(readiness.pending(), ["dns proxy", "proxy"]);
  second[Symbol.dispose]();
  proxy[Symbol.dispose]();
  assert.deepEqual(readiness.pending(), []);
  using _again = readiness.block("proxy");
  assert.deepEqual(readiness.pending(), ["proxy"]);
});
