// How long a client waits for the answer to its CONNECT, on a clock of our own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR, FRAME } from "#lib/wire/http2.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { listenTcp, localAddr } from "#lib/sys/socket.ts";
import {
  Loopback,
  LOOPBACK,
  openPair,
  rawServer,
  testMesh,
  TestStream,
} from "../../test/harness/loopback.ts";
import { CONNECT_ANSWER_S } from "./limits.ts";

const mesh = await testMesh();

/** A loop whose clock is moved by hand, in steps that leave PINGs time for their answers. */
function clocked(): { loop: Loopback; pass: (seconds: number) => Promise<void> } {
  let nowMs = 500;
  const loop = new Loopback(() => nowMs);
  const pass = async (seconds: number): Promise<void> => {
    for (let s = 0; s < seconds; s++) {
      nowMs += 1_000;
      await loop.settle(4);
    }
  };
  return { loop, pass };
}

test("a CONNECT without an answer is reset after fifteen seconds; the tunnel and its other streams live", async () => {
  const { loop, pass } = clocked();
  using _ = loop;
  const { client, server } = await openPair(loop, mesh);
  const answered = client.open();
  const silent = client.open("late:80");
  await loop.until(() => answered.status === 200 && server.streams.length === 2, "the requests");
  await pass(CONNECT_ANSWER_S - 1);
  assert.deepEqual(silent.resets, []);
  await pass(3);
  assert.equal(silent.reset?.error?.code, "NO_ANSWER");
  assert.match(silent.reset?.error?.message ?? "", /within 15 s/);
  assert.equal(silent.resets.length, 1);
  assert.equal(silent.tunnel, null);
  await loop.until(() => server.streams[1]?.reset?.code === ERROR.CANCEL, "the reset");
  await pass(60);
  answered.send("still here");
  await loop.until(() => server.streams[0]?.text === "still here", "the payload");
  assert.deepEqual(answered.resets, []);
});

test("each request has its own fifteen seconds", async () => {
  const { loop, pass } = clocked();
  using _ = loop;
  const { client } = await openPair(loop, mesh);
  const early = client.open("late:80");
  await pass(8);
  const late = client.open("late:80");
  await pass(9);
  assert.deepEqual([early.resets.length, late.resets.length], [1, 0]);
  await pass(5);
  assert.equal(late.resets.length, 0);
  await pass(3);
  assert.equal(late.reset?.error?.code, "NO_ANSWER");
});

test("an answer at the last moment counts, and long silence before a request does not", async () => {
  const { loop, pass } = clocked();
  using _ = loop;
  const { client, server } = await openPair(loop, mesh);
  client.open();
  await pass(100);
  const stream = client.open("late:80");
  await pass(CONNECT_ANSWER_S - 1);
  const far = server.streams[1] ?? assert.fail();
  server.tunnel.respond(far, 200, [[":status", "200"]]);
  await pass(30);
  assert.equal(stream.status, 200);
  assert.deepEqual(stream.resets, []);
});

test("a request that could not even be sent may be tried elsewhere", async () => {
  const { loop, pass } = clocked();
  using _ = loop;
  const { peers, peer, client } = await rawServer(loop, mesh);
  using __ = peers;
  const first = client.open();
  await loop.until(() => peer.of(FRAME.HEADERS).length === 1, "the request");
  peer.send(peer.headersFrame(1, [[":status", "200"]]));
  await loop.until(() => first.status === 200, "the answer");
  const waiting = new TestStream();
  client.tunnel.openStream(waiting, [
    [":method", "CONNECT"],
    [":authority", "a:80".padEnd(600_000, "x")], // no room in the write buffer, ever
  ]);
  await pass(CONNECT_ANSWER_S + 2);
  assert.equal(waiting.reset?.error?.code, "REFUSED");
  assert.deepEqual(first.resets, []);
});

test("what waits for a tunnel still being made shares that tunnel's limits", async () => {
  const { loop, pass } = clocked();
  using _ = loop;
  const deaf = listenTcp({ ip: LOOPBACK, port: 0 }); // the kernel connects, nobody shakes hands
  const client = loop.dial(localAddr(deaf).port, mesh.clientContext);
  const stream = client.open();
  await pass(9);
  assert.deepEqual(stream.resets, []);
  await pass(2);
  assert.equal(stream.reset?.error?.code, "TLS");
  await pass(30);
  assert.equal(stream.resets.length, 1);
  closeFd(deaf);
});
