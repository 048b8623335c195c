// A peer that makes us work for nothing loses its connection, with the reason, at a bounded cost; a peer that
// is merely busy does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR, FLAG, FRAME, SETTING } from "#lib/wire/http2.ts";
import {
  data,
  frame,
  type H2Peer,
  ping,
  rstStream,
  settings,
  windowUpdate,
} from "../../test/harness/h2-peer.ts";
import { Loopback, openPair, rawClient, rawServer, testMesh } from "../../test/harness/loopback.ts";
import { memoryHeld } from "../../test/harness/memory.ts";

const mesh = await testMesh();
const END = FLAG.END_HEADERS | FLAG.END_STREAM;

/** `frames(n)` is the n-th piece of the flood; stream 1 is open, 3 has ended. */
const floods: {
  name: string;
  frames: (n: number, peer: H2Peer) => Buffer;
  reason: RegExp;
  code?: number;
}[] = [
  {
    name: "rapid reset: requests reset before they are answered",
    frames: (n, peer) =>
      Buffer.concat([peer.connectFrame(5 + 2 * n, "late:80"), rstStream(5 + 2 * n, ERROR.CANCEL)]),
    reason: /too many reset streams/,
  },
  {
    name: "rapid reset: requests answered at once, but reset before the answer can have arrived",
    frames: (n, peer) =>
      Buffer.concat([peer.connectFrame(5 + 2 * n, "echo:80"), rstStream(5 + 2 * n, ERROR.CANCEL)]),
    reason: /too many reset streams/,
  },
  {
    name: "MadeYouReset: requests that make us reset them, by WINDOW_UPDATE",
    frames: (n, peer) =>
      Buffer.concat([peer.connectFrame(5 + 2 * n, "late:80"), windowUpdate(5 + 2 * n, 0)]),
    reason: /too many stream errors/,
  },
  {
    name: "MadeYouReset, by DATA after END_STREAM",
    frames: (n, peer) =>
      Buffer.concat([peer.connectFrame(5 + 2 * n, "echo:80", END), data(5 + 2 * n, "x")]),
    reason: /too many stream errors/,
  },
  {
    name: "malformed requests",
    frames: (n, peer) => peer.headersFrame(5 + 2 * n, [["no", "method"]]),
    reason: /too many malformed or excess streams/,
  },
  {
    name: "requests beyond the stream limit",
    frames: (n, peer) => peer.connectFrame(5 + 2 * n, "late:80"),
    reason: /too many malformed or excess streams/,
  },
  { name: "PING", frames: () => ping(), reason: /too many PING frames/ },
  {
    name: "PING answers nobody asked for",
    frames: () => ping("12345678", FLAG.ACK),
    reason: /too many PING answers/,
  },
  { name: "SETTINGS", frames: () => settings(), reason: /too many SETTINGS frames/ },
  {
    name: "SETTINGS acknowledgements",
    frames: () => frame(FRAME.SETTINGS, FLAG.ACK, 0),
    reason: /too many SETTINGS acknowledgements/,
  },
  {
    name: "window changes within SETTINGS",
    frames: () =>
      settings(
        ...Array.from({ length: 200 }, (_, i) => [SETTING.INITIAL_WINDOW_SIZE, i % 2] as const),
      ),
    reason: /too many (window changes|SETTINGS)/,
  },
  { name: "empty DATA", frames: () => data(1, ""), reason: /too many empty DATA frames/ },
  {
    name: "DATA that is all padding",
    frames: () => frame(FRAME.DATA, FLAG.PADDED, 1, "\x01\0"),
    reason: /too many empty DATA frames/,
  },
  {
    name: "PRIORITY",
    frames: () => frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(5)),
    reason: /too many PRIORITY frames/,
  },
  { name: "unknown frames", frames: () => frame(0xbe, 0, 0), reason: /too many unknown frames/ },
  {
    name: "large unknown frames",
    frames: () => frame(0xbe, 0, 0, Buffer.alloc(20_000)),
    reason: /too many unknown frames/,
  },
  {
    name: "WINDOW_UPDATE of the connection",
    frames: () => windowUpdate(0, 1),
    reason: /too many WINDOW_UPDATE frames/,
  },
  {
    name: "WINDOW_UPDATE of an ended stream",
    frames: () => windowUpdate(3, 1),
    reason: /too many WINDOW_UPDATE frames/,
  },
  {
    name: "RST_STREAM of an ended stream",
    frames: () => rstStream(3, ERROR.CANCEL),
    reason: /too many frames on closed streams/,
  },
  {
    name: "HEADERS of an ended stream",
    frames: (_, peer) => peer.headersFrame(3, [["a", "b"]], END),
    reason: /too many frames on closed streams/,
  },
  {
    name: "small DATA of an ended stream",
    frames: () => data(3, "x"),
    reason: /too many frames on closed streams/,
  },
  {
    name: "GOAWAY",
    frames: () => frame(FRAME.GOAWAY, 0, 0, Buffer.alloc(8)),
    reason: /too many GOAWAY frames/,
  },
  {
    name: "CONTINUATION without an end, empty",
    frames: (n) => frame(n === 0 ? FRAME.HEADERS : FRAME.CONTINUATION, 0, 5),
    reason: /a header block that does not end/,
  },
  {
    name: "CONTINUATION without an end, large",
    frames: (n) =>
      frame(n === 0 ? FRAME.HEADERS : FRAME.CONTINUATION, 0, 5, Buffer.alloc(16_000, "\x40")),
    reason: /a header block that does not end/,
  },
  {
    name: "a header list that HPACK blows up",
    frames: (n) =>
      n === 0
        ? frame(
            FRAME.HEADERS,
            END,
            5,
            Buffer.concat([
              Buffer.from("\x40\x01a\x7f\xa1\x1e", "latin1"),
              Buffer.alloc(4_000, "b"),
            ]),
          )
        : frame(FRAME.HEADERS, END, 5 + 2 * n, Buffer.alloc(4_000, 0xbe)),
    reason: /Header list is larger than 65536/,
  },
  {
    name: "HEADERS larger than any list",
    frames: () => Buffer.concat([Buffer.from("010001010400000005", "hex"), Buffer.alloc(100)]),
    reason: /a frame of type 1 with 65537 bytes/,
  },
];

for (const c of floods)
  test(`a flood of ${c.name} ends the connection`, async () => {
    using loop = new Loopback();
    const { peer, server } = await rawClient(loop, mesh);
    using _ = peer;
    peer.send(peer.connectFrame(1), peer.connectFrame(3, "deny:80", END));
    await loop.until(() => peer.status(3) === "401", "the answers");
    const other = await openPair(loop, mesh);
    const near = other.client.open();
    const before = memoryHeld().buffers;
    const start = process.threadCpuUsage();
    for (let n = 0; server.closed.length === 0 && n < 6_000; ) {
      const frames: Buffer[] = [];
      for (let i = 0; i < 50; i++) frames.push(c.frames(n++, peer));
      peer.send(...frames);
      await loop.settle(2);
    }
    await loop.until(() => server.closed.length === 1 && peer.goAwayCode !== null, "the end");
    assert.equal(server.closed[0]?.code, "HTTP2");
    assert.match(server.closed[0]?.message ?? "", c.reason);
    assert.equal(peer.goAwayCode, c.code ?? ERROR.ENHANCE_YOUR_CALM);
    const { user, system } = process.threadCpuUsage(start);
    assert.ok((user + system) / 1000 < 1_500, "CPU, the peer's own work included");
    assert.ok(memoryHeld().buffers - before < 60_000_000);
    near.send("nobody else notices");
    await loop.until(() => other.server.streams[0]?.text === "nobody else notices", "the other");
    for (const stream of server.streams) assert.ok(stream.tunnel === null);
  });

test("a server that floods its client with interim answers is cut", async () => {
  using loop = new Loopback();
  const { peers, peer, client } = await rawServer(loop, mesh);
  using _ = peers;
  const stream = client.open();
  for (let n = 0; client.closed === null && n < 2_000; n++) {
    peer.send(peer.headersFrame(1, [[":status", "103"]]));
    if (n % 50 === 0) await loop.settle(2);
  }
  await loop.until(() => peer.goAwayCode === ERROR.ENHANCE_YOUR_CALM, "the end");
  assert.match(client.closed?.message ?? "", /too many interim responses/);
  assert.equal(stream.reset?.error, client.closed);
});

const rounds = 3_000;
test("thousands of short streams, opened and ended in order, are no flood", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  for (let done = 0; done < rounds; done += 100) {
    const batch = Array.from({ length: 100 }, () => client.open());
    for (const stream of batch) {
      stream.send("hello");
      stream.end();
    }
    await loop.until(
      () => server.streams.length === 100 && server.streams.every((stream) => stream.ends === 1),
      "the requests",
    );
    for (const stream of server.streams.splice(0)) {
      stream.send("bye");
      stream.end();
    }
    await loop.until(() => batch.every((stream) => stream.ends === 1), "the answers");
  }
  assert.equal(server.closed.length, 0);
  assert.equal(client.tunnel.streams.size + server.tunnel.streams.size, 0);
});

test("thousands of streams reset after their answer, from either side, are no flood", async () => {
  using loop = new Loopback();
  const { client, server } = await openPair(loop, mesh);
  for (let done = 0; done < rounds; done += 100) {
    const batch = Array.from({ length: 100 }, () => client.open());
    await loop.until(() => batch.every((stream) => stream.status === 200), "the answers");
    // both sides at once: each gets resets of streams it no longer knows
    for (const stream of [...batch, ...server.streams.splice(0)]) {
      stream.send("x");
      stream.tunnel?.resetStream(stream, ERROR.CANCEL);
    }
    await loop.settle(3);
  }
  assert.equal(server.closed.length, 0);
  assert.equal(client.tunnel.state, "open");
});

test("thousands of denied requests, each with the reset that crosses the answer, are no flood", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  for (let id = 1; id < 2 * rounds; id += 2) {
    peer.send(peer.connectFrame(id, "deny:80"), rstStream(id, ERROR.CANCEL));
    if (id % 100 === 1) await loop.settle(2);
  }
  await loop.until(() => peer.status(2 * rounds - 1) === "401", "the last answer");
  assert.equal(server.closed.length, 0);
});

test("a peer that grants its window in small steps is no flood", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(
    loop,
    mesh,
    settings([SETTING.INITIAL_WINDOW_SIZE, 1_000]),
  );
  using _ = peer;
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const stream = server.streams[0] ?? assert.fail();
  stream.send(Buffer.alloc(1_000_000));
  let granted = 1_000;
  while (granted < 1_000_000) {
    await loop.until(() => stream.sent === granted, "the payload");
    granted += 500;
    peer.send(windowUpdate(1, 500), windowUpdate(0, 500));
  }
  await loop.until(() => stream.sent === 1_000_000, "the last");
  assert.equal(server.closed.length, 0);
});
