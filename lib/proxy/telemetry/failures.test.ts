// What an operator reads for each way a connection ends.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR } from "#lib/wire/http2.ts";
import { type HboneErrorCode, HboneError } from "#lib/hbone/errors.ts";
import type { Failure } from "./connection.ts";
import { failureOfConnect, failureOfEnd, failureOfSilence, failureOfTunnel } from "./failures.ts";

const TUNNEL: Readonly<Record<HboneErrorCode, readonly [Failure["flag"], Failure["reason"]]>> = {
  CONNECT: ["CONNECT", "connect_failed"],
  CONNECT_TIMEOUT: ["NETWORK_POLICY", "hbone_blocked"],
  TLS: ["CONNECT", "tls"],
  PEER_IDENTITY: ["CONNECT", "identity"],
  HTTP2: ["H2_HANDSHAKE_FAILURE", "h2"],
  PING_TIMEOUT: ["CONNECT", "backend_reset"],
  NO_ANSWER: ["CONNECT", "connect_timeout"],
  PEER_CLOSED: ["CONNECT", "backend_reset"],
  REFUSED: ["CONNECT", "backend_reset"],
  CLOSING: ["-", "drained"],
};

for (const [code, want] of Object.entries(TUNNEL))
  test(`a tunnel that ends with ${code}`, () => {
    const error = new HboneError(code as HboneErrorCode, "the words");
    const { flag, reason, detail } = failureOfTunnel(error);
    assert.deepEqual([flag, reason], want);
    assert.match(detail, /^the words/);
    assert.deepEqual(failureOfEnd({ kind: "reset", code: 0, error }).reason, reason);
  });

test("a stream that the peer reset is told with HTTP/2's name for it", () => {
  const end = { kind: "reset", code: ERROR.INTERNAL_ERROR, error: null } as const;
  assert.equal(failureOfEnd(end).detail, "stream reset by the peer: INTERNAL_ERROR");
  const strange = { kind: "reset", code: 77, error: null } as const;
  assert.match(failureOfEnd(strange).detail, /error 77$/);
});

test("a peer that does not answer is named", () => {
  const error = new HboneError("NO_ANSWER", "No answer to CONNECT within 15 s");
  const failure = failureOfSilence(error, "waypoint shop/wp");
  assert.equal(failure.detail, "waypoint shop/wp: No answer to CONNECT within 15 s");
  assert.deepEqual([failure.flag, failure.reason], ["CONNECT", "connect_timeout"]);
});

for (const [errno, reason, detail] of [
  [-1, "connect_timeout", "no connection to 10.0.0.1:80 within 10 s"],
  [111, "connect_failed", "connect to 10.0.0.1:80: ECONNREFUSED"],
] as const)
  test(`a connect that ends with ${errno}`, () => {
    const failure = failureOfConnect(errno, "10.0.0.1:80");
    assert.deepEqual([failure.flag, failure.reason, failure.detail], ["CONNECT", reason, detail]);
  });
