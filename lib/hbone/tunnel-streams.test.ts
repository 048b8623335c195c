// The life of a stream between two of our tunnels, and the end of the tunnel: answers, half-closes, resets,
// graceful and sudden ends.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR } from "#lib/wire/http2.ts";
import { Loopback, openPair, testMesh, TestStream } from "../../test/harness/loopback.ts";
import { HboneError } from "./errors.ts";
import * as limit from "./limits.ts";

const mesh = await testMesh();

test("the request arrives as sent, and bytes go both ways once it is answered", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const stream = client.open("echo:80", [
    ["baggage", "k8s.namespace.name=shop"],
    ["forwarded", 'for="10.0.0.1:4711"'],
    ["x-unknown", "ignored"],
  ]);
  stream.send("held until the answer");
  await loop.until(() => server.streams[0]?.text === "held until the answer", "the payload");
  assert.equal(stream.status, 200);
  assert.equal(server.requests[0]?.baggage, "k8s.namespace.name=shop");
  assert.equal(server.requests[0]?.forwarded, 'for="10.0.0.1:4711"');
  assert.equal(server.requests[0]?.traceparent, null);
  server.streams[0]?.send("and back");
  await loop.until(() => stream.text === "and back", "the payload back");
});

test("nothing is sent before the answer", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const stream = client.open("late:80");
  stream.send("early");
  await loop.until(() => server.streams.length === 1, "the request");
  await loop.settle();
  assert.equal(server.streams[0]?.received, 0);
  server.tunnel.respond(server.streams[0] ?? assert.fail(), 200, [[":status", "200"]]);
  await loop.until(() => server.streams[0]?.text === "early", "the payload");
});

for (const [authority, status] of [
  ["deny:80", 401],
  ["gone:80", 503],
  ["bad:80", 400],
] as const)
  test(`${status} ends the stream on both ends, and the tunnel goes on`, async () => {
    using loop = new Loopback();
    const { client, server } = await openPair(loop, mesh);
    const refused = client.open(authority);
    await loop.until(() => refused.status !== null, "the answer");
    assert.equal(refused.status, status);
    assert.equal(refused.tunnel, null);
    assert.equal(refused.ends + refused.resets.length, 0);
    const next = client.open();
    await loop.until(() => next.status === 200, "the next answer");
    assert.equal(client.tunnel.streams.size, 1);
    assert.equal(server.tunnel.streams.size, 1);
  });

test("either side may end first; the other direction stays open until it ends too", async () => {
  for (const clientFirst of [true, false]) {
    using loop = new Loopback();
    const { client, server } = await openPair(loop, mesh);
    const near = client.open();
    await loop.until(() => near.status === 200, "the answer");
    const far = server.streams[0] ?? assert.fail();
    const [first, second] = clientFirst ? [near, far] : [far, near];
    first.send("last words");
    first.end();
    await loop.until(() => second.ends === 1, "END_STREAM");
    assert.equal(second.text, "last words");
    second.send("long after");
    await loop.until(() => first.text === "long after", "the open direction");
    assert.equal(client.tunnel.streams.size, 1);
    second.end();
    await loop.until(() => first.ends === 1, "the other END_STREAM");
    assert.equal(client.tunnel.streams.size + server.tunnel.streams.size, 0);
    assert.equal(first.resets.length + second.resets.length, 0);
    assert.deepEqual([near.tunnel, far.tunnel], [null, null]);
  }
});

test("a reset reaches the other side with its code, either way", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  for (const code of Object.values(ERROR)) {
    for (const fromClient of [true, false]) {
      const near = client.open();
      await loop.until(() => near.status === 200, "the answer");
      const far = server.streams.at(-1) ?? assert.fail();
      const [from, to] = fromClient ? [near, far] : [far, near];
      from.tunnel?.resetStream(from, code);
      await loop.until(() => to.resets.length === 1, "the reset");
      assert.equal(to.reset?.code, code);
      assert.equal(to.reset?.error?.code, code === ERROR.REFUSED_STREAM ? "REFUSED" : undefined);
      assert.equal(from.resets.length, 0, "who resets is not told again");
    }
  }
  assert.equal(client.tunnel.streams.size + server.tunnel.streams.size, 0);
});

test("a stream given up before the tunnel stood is never opened, and does not hold its end up", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const client = loop.dial(server.port, mesh.clientContext);
  const gone = client.open("gone-early:80");
  const kept = client.open();
  assert.equal(client.tunnel.streamCount, 2);
  gone.tunnel?.resetStream(gone, ERROR.CANCEL);
  assert.equal(client.tunnel.streamCount, 1);
  await loop.until(() => kept.status === 200, "the answer");
  assert.equal(server.requests.length, 1);
  kept.end();
  server.streams[0]?.end();
  await loop.until(() => kept.ends === 1, "the end");
  client.tunnel.drain();
  await loop.until(() => client.closed !== null, "the tunnel's end");
  assert.equal(gone.resets.length, 0);
});

test("a stream refused by one tunnel starts as new on the next", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  for (let i = 0; i < 3; i++) client.open(); // ids 1, 3, 5
  const second = await openPair(loop, mesh);
  const busy = second.client.open();
  await loop.until(() => busy.status === 200, "the answer");
  // refused here with id 1 …
  const moved = server.streams[0] ?? new TestStream();
  assert.ok(moved instanceof TestStream);
  const retried = client.open("late:80");
  await loop.until(() => server.streams.length === 4, "the requests");
  const onServer = server.streams[3] ?? assert.fail();
  server.tunnel.resetStream(onServer, ERROR.REFUSED_STREAM);
  await loop.until(() => retried.reset?.error?.code === "REFUSED", "the refusal");
  const oldId = retried.streamId;
  // … waits to be opened on a tunnel that is not up yet, and is given up there
  const third = loop.dial(second.server.port, mesh.clientContext);
  third.tunnel.openStream(retried, [[":method", "CONNECT"]]);
  assert.equal(retried.streamId, 0, `not ${oldId}, which is another tunnel's`);
  retried.tunnel?.resetStream(retried, ERROR.CANCEL);
  await loop.until(() => third.isOpen, "the tunnel");
  assert.equal(third.tunnel.streamCount, 0);
  assert.equal(busy.resets.length, 0);
});

test("answers to streams of a tunnel that has closed go nowhere", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  client.open("late:80");
  await loop.until(() => server.streams.length === 1, "the request");
  const late = server.streams[0] ?? assert.fail();
  const { tunnel } = server;
  client.tunnel.close(new HboneError("CLOSING", "enough"));
  await loop.until(() => server.closed.length === 1, "the end");
  assert.equal(late.resets.length, 1);
  tunnel.respond(late, 200, [[":status", "200"]]);
  tunnel.refuse(9, 503, false);
  tunnel.endStream(late);
  tunnel.resetStream(late, ERROR.CANCEL);
  assert.equal(tunnel.reserve(late), 0);
  await loop.settle();
  assert.equal(server.closed.length, 1, "told once");
});

test("a lost tunnel fails all its streams, open or waiting, with the reason", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const streams = [client.open(), client.open("late:80")];
  await loop.until(() => streams[0]?.status === 200, "the answer");
  server.tunnel.close(new HboneError("CLOSING", "the pod is gone"));
  await loop.until(() => client.closed !== null, "the loss");
  assert.equal(client.closed?.code, "PEER_CLOSED");
  for (const stream of streams) assert.equal(stream.reset?.error, client.closed);
});

test("a draining server serves what runs and what crosses, then closes in order", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const running = client.open();
  await loop.until(() => running.status === 200, "the answer");
  const crossing = client.open(); // on its way while the server starts to drain
  server.tunnel.drain();
  await loop.until(() => client.goAways === 1, "GOAWAY");
  assert.equal(client.tunnel.hasRoomForStream, false);
  assert.throws(
    () => client.open(),
    (error) => error instanceof HboneError && error.code === "REFUSED",
  );
  await loop.until(() => crossing.status === 200, "the answer that crossed");
  running.send("still served");
  await loop.until(() => server.streams[0]?.text === "still served", "the payload");
  for (const stream of [running, crossing, ...server.streams]) stream.end();
  await loop.until(() => client.closed !== null && server.closed.length === 1, "the end");
  assert.equal(server.closed[0]?.code, "CLOSING");
  for (const stream of [running, crossing]) assert.deepEqual(stream.resets, []);
});

test("the last bytes of the last stream leave before a drained tunnel closes", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const stream = client.open();
  stream.keepsBytes = false;
  await loop.until(() => stream.status === 200, "the answer");
  const far = server.streams[0] ?? assert.fail();
  server.tunnel.drain();
  stream.end();
  await loop.until(() => far.ends === 1, "the client's end");
  const size = 6_000_000; // more than the socket and the buffer take at once
  far.send(Buffer.alloc(size, 7));
  far.end();
  await loop.until(() => client.closed !== null && server.closed.length === 1, "the end");
  assert.equal(stream.received, size);
  assert.equal(stream.ends, 1);
  assert.deepEqual(stream.resets, []);
});

test("a client releases a tunnel without streams at once, one with streams when they end", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  const stream = client.open();
  await loop.until(() => stream.status === 200, "the answer");
  client.tunnel.drain();
  await loop.until(() => server.goAways === 1, "GOAWAY");
  await loop.settle();
  assert.equal(client.tunnel.state, "open");
  stream.end();
  server.streams[0]?.end();
  await loop.until(() => client.closed !== null && server.closed.length === 1, "the end");
  assert.equal(client.closed?.code, "CLOSING");
});

test("the last stream ids are used, then the tunnel leaves the pool", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const client = loop.dial(server.port, mesh.clientContext, () => null, {
    firstStreamId: 2 ** 31 - 3,
  });
  await loop.until(() => client.isOpen, "the handshake");
  const last = [client.open(), client.open()];
  assert.deepEqual(
    last.map((stream) => stream.streamId),
    [2 ** 31 - 3, 2 ** 31 - 1],
  );
  assert.equal(client.tunnel.hasRoomForStream, false);
  assert.equal(client.goAways, 1);
  await loop.until(() => last.every((stream) => stream.status === 200), "the answers");
  for (const stream of [...last, ...server.streams]) stream.end();
  await loop.until(() => client.closed !== null, "the end");
});

test("a silent peer is pinged after ten seconds and given up twenty later", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const { client, server } = await openPair(loop, mesh);
  const stream = client.open();
  await loop.until(() => stream.status === 200, "the answer");
  for (let i = 0; i < 30; i++) {
    nowMs += 5_000; // answered in the turns between
    await loop.settle(10);
  }
  assert.equal(client.closed, null);
  assert.equal(server.closed.length, 0);
  nowMs += 60_000; // nobody can have answered: the thread was away
  await loop.settle();
  assert.equal(client.closed, null, "a thread that was away does not blame its peers");
});

test("limits are what peers of Istio's kind expect", () => {
  assert.equal(limit.MAX_FRAME_SIZE, 1_048_576);
  assert.equal(limit.CONNECTION_WINDOW, 4 * limit.STREAM_WINDOW_MAX);
  assert.equal(limit.MAX_CONCURRENT_STREAMS, 200);
  assert.equal(limit.ASSUMED_PEER_STREAMS, 100);
});
