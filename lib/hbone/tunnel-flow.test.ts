// Flow control in both roles: what we may send, what we grant, and one slow stream among fast ones.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR, FLAG, FRAME, SETTING } from "#lib/wire/http2.ts";
import { readUint32 } from "../../test/harness/h2-frames.ts";
import { data, frame, settings, windowUpdate } from "../../test/harness/h2-peer.ts";
import { Loopback, openPair, rawClient, rawServer, testMesh } from "../../test/harness/loopback.ts";
import { memoryHeld } from "../../test/harness/memory.ts";
import * as limit from "./limits.ts";

const mesh = await testMesh();
const KIB = 1024;

/** A client of ours with one answered stream towards a raw server. */
async function answered(loop: Loopback, greeting: Uint8Array) {
  const raw = await rawServer(loop, mesh, greeting);
  const stream = raw.client.open();
  await loop.until(() => raw.peer.of(FRAME.HEADERS).length === 1, "the request");
  raw.peer.send(raw.peer.headersFrame(1, [[":status", "200"]]));
  await loop.until(() => stream.status === 200, "the answer");
  return { ...raw, stream };
}

test("sending stops at the stream's window and goes on with WINDOW_UPDATE", async () => {
  using loop = new Loopback();
  const { peers, peer, stream } = await answered(
    loop,
    settings([SETTING.INITIAL_WINDOW_SIZE, 10_000]),
  );
  using _ = peers;
  stream.send(Buffer.alloc(30_000, 1));
  await loop.until(() => peer.payloadOf(1).length === 10_000, "the window's worth");
  await loop.settle();
  assert.equal(peer.payloadOf(1).length, 10_000);
  peer.send(windowUpdate(1, 1));
  await loop.until(() => peer.payloadOf(1).length === 10_001, "one more byte");
  peer.send(windowUpdate(1, 100_000));
  await loop.until(() => peer.payloadOf(1).length === 30_000, "the rest");
});

test("sending stops at the connection's window, for all streams, and goes on with it", async () => {
  using loop = new Loopback();
  const { peers, peer, client, stream } = await answered(
    loop,
    settings([SETTING.INITIAL_WINDOW_SIZE, 1_000_000]),
  );
  using _ = peers;
  const second = client.open();
  await loop.until(() => peer.of(FRAME.HEADERS).length === 2, "the request");
  peer.send(peer.headersFrame(3, [[":status", "200"]]));
  await loop.until(() => second.status === 200, "the answer");
  stream.send(Buffer.alloc(100_000));
  second.send(Buffer.alloc(100_000));
  const total = (): number => peer.payloadOf(1).length + peer.payloadOf(3).length;
  await loop.until(() => total() === 65_535, "the window's worth");
  await loop.settle();
  assert.equal(total(), 65_535);
  peer.send(windowUpdate(0, 200_000));
  await loop.until(() => total() === 200_000, "the rest");
});

test("frames keep to the peer's MAX_FRAME_SIZE, as it changes", async () => {
  using loop = new Loopback();
  const { peers, peer, stream } = await answered(
    loop,
    settings([SETTING.INITIAL_WINDOW_SIZE, 10_000_000]),
  );
  using _ = peers;
  peer.send(windowUpdate(0, 10_000_000));
  stream.send(Buffer.alloc(200_000));
  await loop.until(() => peer.payloadOf(1).length === 200_000, "the payload");
  const sizes = (): number[] => peer.of(FRAME.DATA).map((f) => f.payload.length);
  assert.equal(Math.max(...sizes()), 16_384);
  peer.send(settings([SETTING.MAX_FRAME_SIZE, 40_000]));
  await loop.until(() => peer.of(FRAME.SETTINGS).length === 3, "the acknowledgement");
  stream.send(Buffer.alloc(200_000));
  await loop.until(() => peer.payloadOf(1).length === 400_000, "the payload");
  assert.equal(Math.max(...sizes()), 40_000);
});

test("INITIAL_WINDOW_SIZE changes move the windows of open streams, below zero too", async () => {
  using loop = new Loopback();
  const { peers, peer, stream } = await answered(
    loop,
    settings([SETTING.INITIAL_WINDOW_SIZE, 10_000]),
  );
  using _ = peers;
  stream.send(Buffer.alloc(20_000));
  await loop.until(() => peer.payloadOf(1).length === 10_000, "the window's worth");
  peer.send(settings([SETTING.INITIAL_WINDOW_SIZE, 4_000])); // the window is now -6,000
  peer.send(windowUpdate(1, 6_000)); // 0
  await loop.until(() => stream.sendWindow === 0, "the window");
  await loop.settle();
  assert.equal(peer.payloadOf(1).length, 10_000);
  peer.send(windowUpdate(1, 500));
  await loop.until(() => peer.payloadOf(1).length === 10_500, "the grant");
  peer.send(settings([SETTING.INITIAL_WINDOW_SIZE, 14_000])); // 10,000 more
  await loop.until(() => peer.payloadOf(1).length === 20_000, "the rest");
});

test("windows beyond 2^31-1 end the stream or the connection, whichever they are of", async () => {
  using loop = new Loopback();
  const { peers, peer, client, stream } = await answered(loop, settings());
  using _ = peers;
  peer.send(windowUpdate(1, 2 ** 31 - 1));
  await loop.until(() => stream.resets.length === 1, "the stream's end");
  assert.equal(peer.resetCode(1), null);
  await loop.until(() => peer.resetCode(1) === ERROR.FLOW_CONTROL_ERROR, "the reset");
  peer.send(windowUpdate(0, 2 ** 31 - 1));
  await loop.until(() => client.closed !== null, "the connection's end");
  await loop.until(() => peer.goAwayCode === ERROR.FLOW_CONTROL_ERROR, "GOAWAY");
});

test("INITIAL_WINDOW_SIZE that overflows an open stream ends the connection", async () => {
  using loop = new Loopback();
  const { peers, peer, client } = await answered(loop, settings());
  using _ = peers;
  peer.send(windowUpdate(1, 2 ** 31 - 1 - 65_535));
  peer.send(settings([SETTING.INITIAL_WINDOW_SIZE, 65_536]));
  await loop.until(() => client.closed !== null, "the end");
  await loop.until(() => peer.goAwayCode === ERROR.FLOW_CONTROL_ERROR, "GOAWAY");
});

test("we announce the contract's windows, and grant a stream again what it consumed", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  const update = peer.of(FRAME.WINDOW_UPDATE, 0)[0]?.payload ?? assert.fail();
  assert.equal(readUint32(update, 0) + 65_535, limit.CONNECTION_WINDOW);
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const half = limit.STREAM_WINDOW_START / 2;
  peer.send(data(1, Buffer.alloc(half - 1)));
  await loop.until(() => server.streams[0]?.received === half - 1, "the payload");
  await loop.settle();
  assert.equal(peer.of(FRAME.WINDOW_UPDATE, 1).length, 0, "not before half the window is used");
  peer.send(data(1, Buffer.alloc(1)));
  await loop.until(() => peer.of(FRAME.WINDOW_UPDATE, 1).length === 1, "the grant");
});

test("a window grows while the application keeps up, to Istio's 4 MiB and no further", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const { client, server } = await openPair(loop, mesh);
  const stream = client.open();
  await loop.until(() => stream.status === 200, "the answer");
  const far = server.streams[0] ?? assert.fail();
  far.keepsBytes = false;
  stream.send(Buffer.alloc(40_000_000));
  await loop.until(() => far.received === 40_000_000, "the payload");
  assert.equal(far.recvWindowSize, limit.STREAM_WINDOW_MAX);
  // a slow application's window stays
  const slow = client.open();
  await loop.until(() => slow.status === 200, "the answer");
  const slowFar = server.streams[1] ?? assert.fail();
  slowFar.keepsBytes = false;
  for (let sent = 0; sent < 20; sent++) {
    nowMs += 1_000;
    slow.send(Buffer.alloc(limit.STREAM_WINDOW_START / 2));
    await loop.until(() => slowFar.received === slow.sent && slow.sent > 0, "the payload");
  }
  assert.equal(slowFar.recvWindowSize, limit.STREAM_WINDOW_START);
});

test("more than a window ends that stream alone; more than the connection's, the connection", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1), peer.connectFrame(3));
  await loop.until(() => peer.status(3) === "200", "the answers");
  for (const stream of server.streams) {
    stream.isReading = false;
    stream.keepsBytes = false;
  }
  const block = Buffer.alloc(64 * KIB);
  for (let i = 0; i < 4; i++) peer.send(data(1, block));
  await loop.until(() => server.streams[0]?.received === limit.STREAM_WINDOW_START, "the window");
  peer.send(data(1, "x"));
  await loop.until(() => peer.resetCode(1) === ERROR.FLOW_CONTROL_ERROR, "the reset");
  assert.equal(server.streams[0]?.reset?.code, ERROR.FLOW_CONTROL_ERROR);
  assert.equal(server.closed.length, 0);
  // as if nothing were ever granted again
  server.tunnel.hold(limit.CONNECTION_BACKLOG_MAX);
  for (let i = 0; i < 256; i++) peer.send(data(1, block));
  await loop.until(() => server.closed.length === 1, "the connection's end");
  await loop.until(() => peer.goAwayCode === ERROR.FLOW_CONTROL_ERROR, "GOAWAY");
});

test("payload for streams that are gone is given back to the connection's window", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const gone = server.streams[0] ?? assert.fail();
  server.tunnel.resetStream(gone, ERROR.CANCEL);
  const block = Buffer.alloc(1_000_000);
  for (let i = 0; i < 40; i++) peer.send(data(1, block)); // 40 MB over a window of 16 MiB
  await loop.until(() => peer.of(FRAME.WINDOW_UPDATE, 0).length >= 8, "the grants");
  assert.equal(server.closed.length, 0);
  assert.equal(gone.received, 0);
});

test("padding is given back to the stream, even when nothing else comes", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const padded = frame(
    FRAME.DATA,
    FLAG.PADDED,
    1,
    Buffer.concat([Buffer.from([255]), Buffer.alloc(255)]),
  );
  for (let i = 0; i < 400; i++) peer.send(padded); // within the budget for frames without payload
  await loop.until(() => {
    const stream = server.streams[0];
    return (
      stream !== undefined &&
      stream.recvWindow + stream.recvUngranted < limit.STREAM_WINDOW_START + 1
    );
  }, "the frames");
  await loop.settle();
  const stream = server.streams[0] ?? assert.fail();
  assert.equal(stream.recvWindow + stream.recvUngranted, stream.recvWindowSize);
  assert.equal(stream.received, 0);
  peer.send(
    frame(FRAME.DATA, FLAG.PADDED, 1, Buffer.concat([Buffer.from([3]), Buffer.from("text\0\0\0")])),
  );
  await loop.until(() => stream.text === "text", "the payload without its padding");
});

test("a stream that never reads costs its window, and the others run at full speed", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const stuck = client.open();
  const fast = client.open();
  await loop.until(() => fast.status === 200, "the answers");
  const [stuckFar, fastFar] = server.streams;
  assert.ok(stuckFar !== undefined && fastFar !== undefined);
  stuckFar.isReading = false;
  stuckFar.keepsBytes = false;
  fastFar.keepsBytes = false;
  stuck.send(Buffer.alloc(8_000_000));
  fast.send(Buffer.alloc(50_000_000));
  await loop.until(() => fastFar.received === 50_000_000, "the fast stream");
  assert.equal(stuckFar.received, limit.STREAM_WINDOW_START);
  assert.equal(server.tunnel.backlog, limit.STREAM_WINDOW_START);
  stuckFar.take();
  await loop.until(() => stuckFar.received === 8_000_000, "the slow stream, once read");
  assert.equal(server.tunnel.backlog, 0);
});

test("many stuck streams hold the connection's window back at a bound, and free it again", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  for (let i = 0; i < 180; i++) peer.send(peer.connectFrame(1 + 2 * i));
  await loop.until(() => peer.status(359) === "200", "the answers");
  for (const stream of server.streams) {
    stream.isReading = false;
    stream.keepsBytes = false;
  }
  const held = (): number => server.streams.reduce((sum, stream) => sum + stream.held, 0);
  const granted = (): number =>
    peer.of(FRAME.WINDOW_UPDATE, 0).reduce((sum, f) => sum + readUint32(f.payload, 0), 65_535);
  const block = Buffer.alloc(limit.STREAM_WINDOW_START);
  let sent = 0;
  for (let i = 0; i < 180 && granted() - sent >= block.length; i++) {
    peer.send(data(1 + 2 * i, block));
    sent += block.length;
    await loop.until(() => held() === sent, "the block");
    await loop.settle(3);
  }
  assert.ok(held() <= limit.CONNECTION_BACKLOG_MAX + limit.CONNECTION_WINDOW);
  assert.ok(held() >= limit.CONNECTION_BACKLOG_MAX);
  for (const stream of server.streams) stream.take();
  await loop.until(() => granted() - sent >= limit.CONNECTION_WINDOW / 2, "the window");
  assert.equal(server.tunnel.backlog, 0);
});

test("a peer that reads nothing blocks its own tunnel only, and control frames still fit", async () => {
  using loop = new Loopback();
  const greeting = settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]);
  const { peer, server } = await rawClient(loop, mesh, greeting);
  using _ = peer;
  peer.send(windowUpdate(0, 2 ** 30), peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const stream = server.streams[0] ?? assert.fail();
  peer.socket.pause();
  const before = memoryHeld().buffers;
  stream.send(Buffer.alloc(30_000_000));
  await loop.settle();
  assert.ok(stream.sent < 20_000_000, `${stream.sent} bytes went into buffers`);
  // every consumed half window needs an answer that nobody reads
  stream.keepsBytes = false;
  const block = Buffer.alloc(256 * KIB);
  const other = await openPair(loop, mesh);
  const near = other.client.open();
  for (let i = 0; i < 3; i++) {
    const got = stream.received;
    peer.send(data(1, block));
    near.send("alive");
    await loop.until(() => stream.received === got + block.length, "the payload");
  }
  await loop.until(() => other.server.streams[0]?.text === "alivealivealive", "the other tunnel");
  for (let i = 0; i < 12 && server.closed.length === 0; i++) {
    for (let n = 0; n < 40; n++) peer.send(frame(FRAME.PING, 0, 0, "pingpong"));
    await loop.settle(5);
  }
  assert.equal(server.closed.length, 0, "control frames still fit");
  assert.ok(memoryHeld().buffers - before < 40_000_000 + 4_000_000);
  peer.socket.resume();
  await loop.until(() => peer.of(FRAME.PING).length === 480, "the answers");
});

test("a flood of requests is taken a few at a time, in order and without loss", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  const ids = Array.from({ length: 150 }, (_, n) => 2 * n + 1);
  peer.send(...ids.flatMap((id) => [peer.connectFrame(id, "flood:80"), data(id, `${id};`)]));
  let before = 0;
  let most = 0;
  while (server.streams.length < ids.length) {
    await loop.settle(1);
    most = Math.max(most, server.streams.length - before);
    before = server.streams.length;
  }
  assert.ok(most <= limit.REQUESTS_PER_TURN, `${most} in one turn`);
  await loop.until(() => server.streams.every((s) => s.text !== ""), "the payloads");
  assert.deepEqual(
    server.streams.map((s) => s.text),
    ids.map((id) => `${id};`),
  );
});

test("a peer that reads nothing and makes us answer without end is cut", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.socket.pause();
  const before = memoryHeld().buffers;
  for (let id = 1; server.closed.length === 0 && id < 2_000_000; ) {
    const requests: Buffer[] = [];
    for (let n = 0; n < 2_000; n++, id += 2) requests.push(peer.connectFrame(id, "gone:80"));
    peer.send(...requests);
    await loop.settle(2_000 / limit.REQUESTS_PER_TURN);
  }
  assert.equal(server.closed[0]?.message, "The peer does not read, and makes us answer");
  assert.ok(memoryHeld().buffers - before < 30_000_000);
});
