// Who shares a tunnel with whom, how many are dialled, and when they are let go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "#lib/net/ip.ts";
import { ERROR, SETTING } from "#lib/wire/http2.ts";
import { connectFd, tcpSocket } from "#lib/sys/socket.ts";
import { H2PeerServer, rstStream, settings } from "../../test/harness/h2-peer.ts";
import { Loopback, LOOPBACK, testMesh, TestStream } from "../../test/harness/loopback.ts";
import { HboneError } from "./errors.ts";
import { type Dial, HbonePool, type PoolKey } from "./pool.ts";
import { Tunnel } from "./tunnel.ts";

const mesh = await testMesh();
const CONNECT = [
  [":method", "CONNECT"],
  [":authority", "echo:80"],
] as const;

function keyOf(port: number, changes: Partial<PoolKey> = {}): PoolKey {
  return {
    nextHop: { ip: LOOPBACK, port },
    sourceIp: parseIp("10.0.0.1"),
    identities: ["spiffe://a/ns/b/sa/c"],
    ...changes,
  };
}

function poolOf(loop: Loopback, port: number, maxStreams = 100) {
  const pool = new HbonePool({ reactor: loop.reactor, maxStreams, idleMs: 300_000 });
  let dials = 0;
  const dial: Dial = (owner) => {
    dials++;
    const fd = tcpSocket({ family: "ipv4" });
    connectFd(fd, { ip: LOOPBACK, port });
    return new Tunnel({
      reactor: loop.reactor,
      fd,
      isConnecting: true,
      context: mesh.clientContext,
      peerCheck: () => null,
      owner,
    });
  };
  return {
    pool,
    dial,
    open: (key: PoolKey = keyOf(port)): TestStream => {
      const stream = new TestStream();
      pool.open(key, dial, stream, CONNECT);
      return stream;
    },
    get dials(): number {
      return dials;
    },
  };
}

test("streams of one key share a tunnel, from the first on", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port);
  using pool = one.pool;
  const streams = Array.from({ length: 20 }, () => one.open());
  await loop.until(() => streams.every((stream) => stream.status === 200), "the answers");
  const later = one.open();
  await loop.until(() => later.status === 200, "the answer");
  assert.equal(one.dials, 1);
  assert.equal(pool.size, 1);
});

test("next hop, source address and expected identities keep tunnels apart", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port);
  using pool = one.pool;
  for (const changes of [
    {},
    { sourceIp: parseIp("10.0.0.2") },
    { identities: [] },
    { identities: ["spiffe://a/ns/b/sa/c", "spiffe://a/ns/b/sa/d"] },
    { identities: ["spiffe://a/ns/b/sa/d", "spiffe://a/ns/b/sa/c"] },
    { nextHop: { ip: LOOPBACK, port: server.port + 1 } },
  ]) {
    one.open(keyOf(server.port, changes));
    one.open(keyOf(server.port, changes));
  }
  assert.equal(one.dials, 6);
  assert.equal(pool.size, 6);
});

test("a full tunnel is followed by another", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port, 3);
  using _ = one.pool;
  const streams = Array.from({ length: 7 }, () => one.open());
  await loop.until(() => streams.every((stream) => stream.status === 200), "the answers");
  assert.equal(one.dials, 3);
  streams[0]?.tunnel?.resetStream(streams[0], ERROR.CANCEL);
  one.open();
  assert.equal(one.dials, 3, "the place that came free is used");
});

test("a peer's lower limit fills a tunnel too", async () => {
  using loop = new Loopback();
  using peers = await H2PeerServer.listen(
    mesh.server,
    settings([SETTING.MAX_CONCURRENT_STREAMS, 1]),
  );
  const one = poolOf(loop, peers.port);
  using pool = one.pool;
  one.open();
  const [tunnel] = [...pool.tunnels()];
  await loop.until(() => tunnel?.peerMaxStreams === 1, "the limit");
  one.open();
  assert.equal(one.dials, 2);
});

test("all who wait for a tunnel fail with it, for one reason, and the next one dials again", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext, () => "not from you");
  const one = poolOf(loop, server.port);
  using pool = one.pool;
  const streams = Array.from({ length: 5 }, () => one.open());
  await loop.until(() => streams.every((stream) => stream.resets.length === 1), "the failures");
  assert.equal(new Set(streams.map((stream) => stream.reset?.error)).size, 1);
  assert.equal(streams[0]?.reset?.error?.code, "TLS");
  assert.equal(pool.size, 0);
  one.open();
  assert.equal(one.dials, 2);
});

test("a dial that cannot begin is the caller's to hear of, and leaves nothing", () => {
  using loop = new Loopback();
  using pool = new HbonePool({ reactor: loop.reactor, maxStreams: 1, idleMs: 1 });
  const dial: Dial = () => {
    throw new HboneError("CONNECT", "no socket");
  };
  assert.throws(() => pool.open(keyOf(1), dial, new TestStream(), CONNECT), /no socket/);
  assert.equal(pool.size, 0);
});

test("a tunnel going away takes no more; a refused stream finds another", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port);
  using pool = one.pool;
  const running = one.open();
  await loop.until(() => running.status === 200, "the answer");
  const [first] = server.tunnels;
  first?.drain();
  await loop.until(() => running.tunnel?.isGoingAway === true, "GOAWAY");
  const next = one.open();
  assert.equal(one.dials, 2);
  await loop.until(() => next.status === 200, "the answer");
  running.send("still running");
  await loop.until(() => server.streams[0]?.text === "still running", "the payload");
  for (const stream of [running, server.streams[0]]) stream?.end();
  await loop.until(() => pool.size === 1, "the first tunnel's end");
});

test("REFUSED_STREAM leaves the tunnel in use", async () => {
  using loop = new Loopback();
  using peers = await H2PeerServer.listen(mesh.server);
  const one = poolOf(loop, peers.port);
  using _ = one.pool;
  const refused = one.open();
  await loop.until(() => peers.peers[0]?.of(1).length === 1, "the request");
  peers.peer.send(rstStream(1, ERROR.REFUSED_STREAM));
  await loop.until(() => refused.reset?.error?.code === "REFUSED", "the refusal");
  one.open();
  await loop.until(() => peers.peer.of(1, 3).length === 1, "the retry");
  assert.equal(one.dials, 1);
});

test("tunnels without streams are released after five minutes without use", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port);
  using pool = one.pool;
  const long = one.open();
  const other = one.open(keyOf(server.port, { identities: [] }));
  await loop.until(() => long.status === 200 && other.status === 200, "the answers");
  other.tunnel?.resetStream(other, ERROR.CANCEL);
  for (let minute = 0; minute < 4; minute++) {
    for (let i = 0; i < 12; i++) {
      nowMs += 5_000;
      await loop.settle(3);
    }
    assert.equal(pool.size, 2, `after ${minute + 1} minutes`);
  }
  for (let i = 0; i < 24; i++) {
    nowMs += 5_000;
    await loop.settle(3);
  }
  await loop.until(() => pool.size === 1, "the release");
  long.send("streams keep their tunnel");
  await loop.until(() => server.streams[0]?.received !== 0, "the payload");
  assert.equal(server.closed[0]?.code, "CLOSING");
});

test("a stream that waits for its tunnel is served although the pool is drained meanwhile", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port);
  const stream = one.open();
  one.pool.drain();
  await loop.until(() => stream.status === 200, "the answer");
  stream.send("in time");
  await loop.until(() => server.streams[0]?.text === "in time", "the payload");
  one.pool[Symbol.dispose]();
});

test("a drained pool opens nothing and lets its streams run; a disposed one ends them", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const one = poolOf(loop, server.port);
  const stream = one.open();
  await loop.until(() => stream.status === 200, "the answer");
  one.pool.drain();
  assert.throws(
    () => one.open(),
    (error) => error instanceof HboneError && error.code === "CLOSING",
  );
  stream.send("runs on");
  await loop.until(() => server.streams[0]?.text === "runs on", "the payload");
  one.pool[Symbol.dispose]();
  assert.equal(stream.reset?.error?.code, "CLOSING");
  assert.equal(one.pool.size, 0);
});
