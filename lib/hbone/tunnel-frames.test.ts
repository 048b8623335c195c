// Frame by frame against RFC 9113: what a peer may send, in any cutting, and what ends a stream or the connection.
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "#lib/wire/traceparent.ts";
import { ERROR, FLAG, FRAME, PREFACE, SETTING } from "#lib/wire/http2.ts";
import { readUint32 } from "../../test/harness/h2-frames.ts";
import {
  data,
  frame,
  goAway,
  H2Peer,
  ping,
  rstStream,
  settings,
  windowUpdate,
  word,
} from "../../test/harness/h2-peer.ts";
import {
  Loopback,
  rawClient,
  rawServer,
  testMesh,
  type TestServer,
} from "../../test/harness/loopback.ts";

const mesh = await testMesh();
const END = FLAG.END_HEADERS | FLAG.END_STREAM;
const OK = [[":status", "200"]] as const;

test("a server's first frames: SETTINGS with its limits, then the connection window", async () => {
  using loop = new Loopback();
  const { peer } = await rawClient(loop, mesh);
  using _ = peer;
  const [first, second] = peer.frames;
  assert.equal(first?.type, FRAME.SETTINGS);
  assert.deepEqual(settingsOf(first.payload), [
    [SETTING.MAX_CONCURRENT_STREAMS, 200],
    [SETTING.INITIAL_WINDOW_SIZE, 262_144],
    [SETTING.MAX_FRAME_SIZE, 1_048_576],
    [SETTING.MAX_HEADER_LIST_SIZE, 65_536],
  ]);
  assert.equal(second?.type, FRAME.WINDOW_UPDATE);
});

test("a client's first frames: push off, and no CONNECT carries :scheme or :path", async () => {
  using loop = new Loopback();
  const { peers, peer, client } = await rawServer(loop, mesh);
  using _ = peers;
  assert.deepEqual(settingsOf(peer.frames[0]?.payload ?? Buffer.alloc(0))[0], [
    SETTING.ENABLE_PUSH,
    0,
  ]);
  client.open("10.0.0.1:80");
  await loop.until(() => peer.of(FRAME.HEADERS).length === 1, "the request");
  const request = peer.of(FRAME.HEADERS)[0];
  assert.equal(request?.flags, FLAG.END_HEADERS);
  assert.deepEqual(
    [...(request.headers ?? [])],
    [
      [":method", "CONNECT"],
      [":authority", "10.0.0.1:80"],
    ],
  );
});

/** One conversation with everything in it; the events must not depend on how it is cut. */
function conversation(peer: H2Peer): Buffer {
  const opening = peer.connectFrame(1); // header blocks are made in the order they are sent
  const block = peer.encode([
    [":method", "CONNECT"],
    [":authority", "echo:81"],
    ["x-long", "y".repeat(600)],
  ]);
  const padded = Buffer.concat([Buffer.from([5]), Buffer.from("padded"), Buffer.alloc(5)]);
  return Buffer.concat([
    opening,
    data(1, "first "),
    frame(0xbe, 0xff, 9, "an unknown type"),
    frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(5)),
    frame(
      FRAME.HEADERS,
      FLAG.PRIORITY,
      3,
      Buffer.concat([Buffer.alloc(5), block.subarray(0, 100)]),
    ),
    frame(FRAME.CONTINUATION, 0, 3, ""),
    frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 3, block.subarray(100)),
    frame(FRAME.DATA, FLAG.PADDED, 1, padded),
    ping("12345678"),
    data(3, Buffer.alloc(300, "z")),
    settings([SETTING.HEADER_TABLE_SIZE, 0], [0xabcd, 7]),
    windowUpdate(0, 1_000),
    windowUpdate(3, 1_000),
    data(1, "", FLAG.END_STREAM),
    peer.headersFrame(3, [["x-trailer", "ignored"]], END),
    peer.connectFrame(5, "late:80"),
    rstStream(5, ERROR.CANCEL),
    peer.headersFrame(
      7,
      [
        [":method", "GET"],
        [":scheme", "https"],
        [":path", "/"],
        [":authority", "a"],
      ],
      END,
    ),
  ]);
}

function events(server: TestServer): unknown {
  return {
    requests: server.requests,
    streams: server.streams.map((s) => [s.text, s.ends, [...s.resets]]),
    closed: [...server.closed],
  };
}

async function converse(cut: (bytes: Buffer) => Buffer[]): Promise<unknown> {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  for (const piece of cut(conversation(peer))) {
    peer.send(piece);
    await loop.settle(1);
  }
  await loop.until(() => peer.status(7) === "400", "the last answer");
  assert.equal(peer.of(FRAME.PING)[0]?.payload.toString(), "12345678");
  assert.equal(peer.of(FRAME.SETTINGS).length, 3);
  return events(server);
}

test("any cutting of the bytes gives the same events", async () => {
  const whole = await converse((bytes) => [bytes]);
  const { streams } = whole as { streams: [string, number, unknown[]][] };
  assert.deepEqual(streams, [
    ["first padded", 1, []],
    ["z".repeat(300), 1, []],
    ["", 0, [{ code: ERROR.CANCEL, error: null }]],
  ]);
  const oneByOne = await converse((bytes) => [...bytes].map((byte) => Buffer.from([byte])));
  assert.deepEqual(oneByOne, whole);
  const random = seededRandom([1, 2, 3, 4]);
  for (let round = 0; round < 10; round++) {
    const cuts = await converse((bytes) => {
      const pieces: Buffer[] = [];
      for (let at = 0; at < bytes.length; ) {
        const size = 1 + (random() % 400);
        pieces.push(bytes.subarray(at, at + size));
        at += size;
      }
      return pieces;
    });
    assert.deepEqual(cuts, whole);
  }
});

test("DATA frames of 1 MiB are taken as they arrive", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const stream = server.streams[0] ?? assert.fail();
  stream.recvWindow = 4_194_304; // as after growth
  stream.recvWindowSize = 4_194_304;
  const bytes = Buffer.alloc(1_048_576);
  bytes.forEach((_, i) => {
    bytes[i] = i * 31;
  });
  const sent = data(1, bytes);
  peer.send(sent.subarray(0, 300_000));
  await loop.until(() => stream.received === 300_000 - 9, "the first part");
  peer.send(sent.subarray(300_000), data(1, bytes, FLAG.END_STREAM));
  await loop.until(() => stream.ends === 1, "the end");
  assert.ok(Buffer.concat(stream.chunks).equals(Buffer.concat([bytes, bytes])));
});

test("a stream reset in the middle of its frame drops the rest of it, nothing else", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1), peer.connectFrame(3));
  await loop.until(() => peer.status(3) === "200", "the answers");
  const [first, second] = server.streams;
  const half = data(1, Buffer.alloc(20_000), FLAG.END_STREAM);
  peer.send(half.subarray(0, 10_009));
  await loop.until(() => first?.received === 10_000, "the half");
  if (first !== undefined) server.tunnel.resetStream(first, ERROR.CANCEL);
  peer.send(half.subarray(10_009), data(3, "after"));
  await loop.until(() => second?.text === "after", "the frame behind");
  assert.equal(first?.received, 10_000);
  assert.equal(first.ends, 0);
});

test("a connection cut in the middle of a frame fails its streams, not the thread", async () => {
  for (const cut of [4, 12, 5_000]) {
    using loop = new Loopback();
    const { peer, server } = await rawClient(loop, mesh);
    peer.send(peer.connectFrame(1));
    await loop.until(() => peer.status(1) === "200", "the answer");
    peer.send(data(1, Buffer.alloc(10_000), FLAG.END_STREAM).subarray(0, cut));
    await loop.settle(5);
    peer.socket.destroy();
    await loop.until(() => server.closed.length === 1, "the loss");
    assert.equal(server.closed[0]?.code, "PEER_CLOSED");
    assert.equal(server.streams[0]?.reset?.error, server.closed[0]);
    assert.equal(server.streams[0]?.ends, 0);
  }
});

/** Frames that end the connection, sent to a server with stream 1 open and 3 ended by both. */
const fatal: { name: string; frames: (peer: H2Peer) => Buffer[]; code: number }[] = [
  { name: "DATA on stream 0", frames: () => [data(0, "x")], code: ERROR.PROTOCOL_ERROR },
  { name: "DATA on an idle stream", frames: () => [data(9, "x")], code: ERROR.PROTOCOL_ERROR },
  { name: "DATA on a stream of ours", frames: () => [data(2, "x")], code: ERROR.PROTOCOL_ERROR },
  {
    name: "DATA with more padding than payload",
    frames: () => [frame(FRAME.DATA, FLAG.PADDED, 1, "\x05four")],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "DATA too short for its pad length",
    frames: () => [frame(FRAME.DATA, FLAG.PADDED, 1), ping()],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "DATA larger than our MAX_FRAME_SIZE",
    frames: () => [Buffer.concat([Buffer.from("100001000000000001", "hex"), Buffer.alloc(100)])],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "HEADERS on stream 0",
    frames: (peer) => [peer.connectFrame(0)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "HEADERS on an even stream",
    frames: (peer) => [peer.connectFrame(8)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "HEADERS with too much padding",
    frames: () => [frame(FRAME.HEADERS, FLAG.PADDED | FLAG.END_HEADERS, 5, "\x09abc")],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "HEADERS too short for their priority",
    frames: () => [frame(FRAME.HEADERS, FLAG.PRIORITY | FLAG.END_HEADERS, 5, "abc")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "HEADERS that are no HPACK",
    frames: () => [frame(FRAME.HEADERS, FLAG.END_HEADERS, 5, "\xff\xff\xff\xff\xff\xff")],
    code: ERROR.COMPRESSION_ERROR,
  },
  {
    name: "HEADERS interrupted by another frame",
    frames: (peer) => [peer.connectFrame(5, "a:1", 0), ping()],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "HEADERS interrupted by DATA",
    frames: (peer) => [peer.connectFrame(5, "a:1", 0), data(1, "x")],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "CONTINUATION of another stream",
    frames: (peer) => [
      peer.connectFrame(5, "a:1", 0),
      frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 7),
    ],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "CONTINUATION without HEADERS",
    frames: () => [frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 1)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "PRIORITY on stream 0",
    frames: () => [frame(FRAME.PRIORITY, 0, 0, Buffer.alloc(5))],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "PRIORITY of four bytes",
    frames: () => [frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(4))],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "RST_STREAM on stream 0",
    frames: () => [rstStream(0, 8)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "RST_STREAM of an idle stream",
    frames: () => [rstStream(9, 8)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "RST_STREAM of three bytes",
    frames: () => [frame(FRAME.RST_STREAM, 0, 1, "abc")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "SETTINGS on a stream",
    frames: () => [frame(FRAME.SETTINGS, 0, 1)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "SETTINGS of five bytes",
    frames: () => [frame(FRAME.SETTINGS, 0, 0, "12345")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "a SETTINGS acknowledgement with content",
    frames: () => [frame(FRAME.SETTINGS, FLAG.ACK, 0, "123456")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "ENABLE_PUSH of 2",
    frames: () => [settings([SETTING.ENABLE_PUSH, 2])],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "ENABLE_CONNECT_PROTOCOL of 2",
    frames: () => [settings([SETTING.ENABLE_CONNECT_PROTOCOL, 2])],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "INITIAL_WINDOW_SIZE of 2^31",
    frames: () => [settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 31])],
    code: ERROR.FLOW_CONTROL_ERROR,
  },
  {
    name: "MAX_FRAME_SIZE of 16,383",
    frames: () => [settings([SETTING.MAX_FRAME_SIZE, 16_383])],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "MAX_FRAME_SIZE of 2^24",
    frames: () => [settings([SETTING.MAX_FRAME_SIZE, 2 ** 24])],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "PUSH_PROMISE",
    frames: () => [frame(FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, word(2))],
    code: ERROR.PROTOCOL_ERROR,
  },
  { name: "PING on a stream", frames: () => [frame(FRAME.PING, 0, 1, "12345678")], code: 1 },
  {
    name: "PING of seven bytes",
    frames: () => [frame(FRAME.PING, 0, 0, "1234567")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "GOAWAY on a stream",
    frames: () => [frame(FRAME.GOAWAY, 0, 1, Buffer.alloc(8))],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "GOAWAY of seven bytes",
    frames: () => [frame(FRAME.GOAWAY, 0, 0, "1234567")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "WINDOW_UPDATE of three bytes",
    frames: () => [frame(FRAME.WINDOW_UPDATE, 0, 1, "123")],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "WINDOW_UPDATE of the connection by 0",
    frames: () => [windowUpdate(0, 0)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "WINDOW_UPDATE of an idle stream",
    frames: () => [windowUpdate(9, 1)],
    code: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "a control frame larger than any needs",
    frames: () => [frame(FRAME.SETTINGS, 0, 0, Buffer.alloc(30_000))],
    code: ERROR.FRAME_SIZE_ERROR,
  },
  {
    name: "an unknown frame larger than our MAX_FRAME_SIZE",
    frames: () => [Buffer.concat([Buffer.from("100001be0000000001", "hex"), Buffer.alloc(100)])],
    code: ERROR.FRAME_SIZE_ERROR,
  },
];

for (const c of fatal)
  test(`${c.name} ends the connection`, async () => {
    using loop = new Loopback();
    const { peer, server } = await openStreams(loop);
    using _ = peer;
    peer.send(...c.frames(peer));
    await loop.until(() => server.closed.length === 1 && peer.goAwayCode !== null, "the end");
    assert.equal(server.closed[0]?.code, "HTTP2");
    assert.equal(peer.goAwayCode, c.code, server.closed[0]?.message);
    assert.equal(readUint32(peer.of(FRAME.GOAWAY)[0]?.payload ?? Buffer.alloc(8), 0), 3);
    assert.equal(server.streams[0]?.reset?.error, server.closed[0]);
  });

/** Frames that end stream 1 or 5 and leave the connection alone. */
const contained: { name: string; id: number; frames: (peer: H2Peer) => Buffer[]; code: number }[] =
  [
    {
      name: "DATA after END_STREAM",
      id: 1,
      frames: () => [data(1, "", FLAG.END_STREAM), data(1, "x")],
      code: ERROR.STREAM_CLOSED,
    },
    {
      name: "HEADERS after END_STREAM",
      id: 1,
      frames: (peer) => [data(1, "", FLAG.END_STREAM), peer.headersFrame(1, [["a", "b"]], END)],
      code: ERROR.STREAM_CLOSED,
    },
    {
      name: "trailers that do not end the stream",
      id: 1,
      frames: (peer) => [peer.headersFrame(1, [["a", "b"]])],
      code: ERROR.PROTOCOL_ERROR,
    },
    {
      name: "WINDOW_UPDATE of a stream by 0",
      id: 1,
      frames: () => [windowUpdate(1, 0)],
      code: ERROR.PROTOCOL_ERROR,
    },
    {
      name: "CONNECT with a path",
      id: 5,
      frames: (peer) => [
        peer.headersFrame(5, [
          [":method", "CONNECT"],
          [":authority", "a:1"],
          [":path", "/"],
        ]),
      ],
      code: ERROR.PROTOCOL_ERROR,
    },
    {
      name: "CONNECT without authority",
      id: 5,
      frames: (peer) => [peer.headersFrame(5, [[":method", "CONNECT"]])],
      code: ERROR.PROTOCOL_ERROR,
    },
    {
      name: "a request with a connection header",
      id: 5,
      frames: (peer) => [
        peer.headersFrame(5, [
          [":method", "CONNECT"],
          [":authority", "a:1"],
          ["connection", "close"],
        ]),
      ],
      code: ERROR.PROTOCOL_ERROR,
    },
    {
      name: "a request with an upper-case name",
      id: 5,
      frames: (peer) => [
        peer.headersFrame(5, [
          [":method", "CONNECT"],
          [":authority", "a:1"],
          ["X-Y", "z"],
        ]),
      ],
      code: ERROR.PROTOCOL_ERROR,
    },
  ];

for (const c of contained)
  test(`${c.name} ends that stream alone`, async () => {
    using loop = new Loopback();
    const { peer, server } = await openStreams(loop);
    using _ = peer;
    peer.send(...c.frames(peer), peer.connectFrame(11));
    await loop.until(() => peer.status(11) === "200", "the next answer");
    assert.equal(peer.resetCode(c.id), c.code);
    assert.equal(server.closed.length, 0);
    assert.equal(server.tunnel.streams.size, c.id === 1 ? 1 : 2);
  });

test("frames for streams that have ended are weather", async () => {
  using loop = new Loopback();
  const { peer, server } = await openStreams(loop);
  using _ = peer;
  peer.send(
    data(3, "late"),
    windowUpdate(3, 10),
    rstStream(3, ERROR.CANCEL),
    peer.headersFrame(3, [["a", "b"]], END),
    frame(FRAME.PRIORITY, 0, 3, Buffer.alloc(5)),
    frame(0xbe, 0, 3, Buffer.alloc(100_000)),
    frame(0x10, 0, 0, Buffer.concat([word(1), Buffer.from("u=1")])), // PRIORITY_UPDATE, RFC 9218 §7.1
    peer.connectFrame(11),
  );
  await loop.until(() => peer.status(11) === "200", "the next answer");
  assert.equal(server.closed.length, 0);
});

test("a connection that does not begin as HTTP/2 is told so", async () => {
  for (const first of [
    Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    Buffer.concat([PREFACE, ping()]),
    Buffer.concat([PREFACE, frame(FRAME.SETTINGS, FLAG.ACK, 0)]),
    Buffer.concat([PREFACE, data(1, "x")]),
  ]) {
    using loop = new Loopback();
    const server = loop.listen(mesh.serverContext);
    using peer = await loop.turning(H2Peer.connect(server.port, mesh.client, null));
    peer.send(first);
    await loop.until(() => server.closed.length === 1 && peer.goAwayCode !== null, "the end");
    assert.equal(peer.goAwayCode, ERROR.PROTOCOL_ERROR);
  }
});

test("CONNECT that ends at once is open for our direction", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1, "echo:80", END));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const stream = server.streams[0] ?? assert.fail();
  assert.equal(stream.isRemoteEnded, true);
  stream.send("one way");
  stream.end();
  await loop.until(
    () => peer.of(FRAME.DATA, 1).some((f) => f.flags === FLAG.END_STREAM),
    "the end",
  );
  assert.equal(peer.payloadOf(1).toString(), "one way");
  assert.equal(peer.resetCode(1), null);
  assert.equal(server.tunnel.streams.size, 0);
});

test("an error answer is followed by NO_ERROR unless the request has ended", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(
    peer.connectFrame(1, "deny:80"),
    peer.connectFrame(3, "deny:80", END),
    peer.connectFrame(5, "bad:80"),
  );
  await loop.until(() => peer.status(5) === "400", "the answers");
  assert.deepEqual([peer.status(1), peer.resetCode(1)], ["401", ERROR.NO_ERROR]);
  assert.deepEqual([peer.status(3), peer.resetCode(3)], ["401", null]);
  assert.equal(peer.resetCode(5), ERROR.NO_ERROR);
  for (const id of [1, 3, 5]) assert.equal(peer.of(FRAME.HEADERS, id)[0]?.flags, END);
  assert.equal(server.tunnel.streams.size, 0);
});

test("more streams than announced are refused, and room comes back as streams end", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  for (let i = 0; i < 201; i++) peer.send(peer.connectFrame(1 + 2 * i));
  await loop.until(() => peer.resetCode(401) !== null, "the refusal");
  assert.equal(peer.resetCode(401), ERROR.REFUSED_STREAM);
  assert.equal(server.streams.length, 200);
  peer.send(rstStream(1, ERROR.CANCEL), peer.connectFrame(403));
  await loop.until(() => peer.status(403) === "200", "the answer");
});

test("a drained server names its last stream after the PING's answer, and refuses later ones", async () => {
  using loop = new Loopback();
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  peer.isPolite = false;
  server.tunnel.drain();
  await loop.until(() => peer.of(FRAME.PING).length === 1, "the PING");
  assert.equal(readUint32(peer.of(FRAME.GOAWAY)[0]?.payload ?? Buffer.alloc(8), 0), 2 ** 31 - 1);
  peer.send(peer.connectFrame(3));
  await loop.until(() => peer.status(3) === "200", "an answer between the two GOAWAYs");
  peer.send(frame(FRAME.PING, FLAG.ACK, 0, peer.of(FRAME.PING)[0]?.payload ?? ""));
  await loop.until(() => peer.of(FRAME.GOAWAY).length === 2, "the second GOAWAY");
  assert.equal(readUint32(peer.of(FRAME.GOAWAY)[1]?.payload ?? Buffer.alloc(8), 0), 3);
  peer.send(peer.connectFrame(5));
  await loop.until(() => peer.resetCode(5) === ERROR.REFUSED_STREAM, "the refusal");
  peer.send(rstStream(1, ERROR.CANCEL), rstStream(3, ERROR.CANCEL));
  await loop.until(() => server.closed[0]?.code === "CLOSING" && peer.isClosed, "the end");
});

test("a drained server does not wait for a PING's answer for ever", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.isPolite = false;
  server.tunnel.drain();
  await loop.until(() => peer.of(FRAME.PING).length === 1, "the PING");
  await loop.settle();
  assert.equal(server.closed.length, 0);
  nowMs += 1_050;
  await loop.until(() => server.closed[0]?.code === "CLOSING", "the end");
});

test("a peer that answers no PING is cut after twenty seconds, with GOAWAY", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const { peer, server } = await rawClient(loop, mesh);
  using _ = peer;
  peer.isPolite = false;
  nowMs += 10_050;
  await loop.until(() => peer.of(FRAME.PING).length === 1, "the PING");
  nowMs += 19_000;
  peer.send(ping()); // talking is not answering
  await loop.until(() => peer.of(FRAME.PING).length === 2, "our answer");
  assert.equal(server.closed.length, 0);
  nowMs += 2_000;
  await loop.until(() => server.closed.length === 1, "the end");
  assert.equal(server.closed[0]?.code, "PING_TIMEOUT");
  await loop.until(() => peer.goAwayCode === ERROR.NO_ERROR, "GOAWAY");
});

test("a client retries what a GOAWAY does not cover, and what stays unanswered behind it", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const { peers, peer, client } = await rawServer(loop, mesh);
  using _ = peers;
  const [answered, waiting, above] = [client.open(), client.open(), client.open()];
  await loop.until(() => peer.of(FRAME.HEADERS).length === 3, "the requests");
  peer.send(peer.headersFrame(1, OK), goAway(3));
  await loop.until(() => client.goAways === 1, "GOAWAY");
  assert.equal(above?.reset?.error?.code, "REFUSED");
  assert.equal(waiting?.resets.length, 0);
  assert.equal(client.tunnel.hasRoomForStream, false);
  nowMs += 1_050;
  await loop.until(() => waiting?.reset?.error?.code === "REFUSED", "the retry");
  await loop.until(() => peer.resetCode(3) === ERROR.CANCEL, "the reset");
  peer.send(data(1, "goes on"));
  await loop.until(() => answered?.text === "goes on", "the payload");
  peer.send(data(1, "", FLAG.END_STREAM));
  answered?.end();
  await loop.until(() => client.closed?.code === "CLOSING", "the end");
  assert.equal(client.goAways, 1);
});

test("a client keeps to the peer's MAX_CONCURRENT_STREAMS, and tries elsewhere what it refuses", async () => {
  using loop = new Loopback();
  const { peers, peer, client } = await rawServer(
    loop,
    mesh,
    settings([SETTING.MAX_CONCURRENT_STREAMS, 2]),
  );
  using _ = peers;
  const first = client.open();
  client.open();
  assert.equal(client.tunnel.hasRoomForStream, false);
  await loop.until(() => peer.of(FRAME.HEADERS).length === 2, "the requests");
  peer.send(rstStream(1, ERROR.REFUSED_STREAM));
  await loop.until(() => first.reset?.error?.code === "REFUSED", "the refusal");
  assert.equal(client.tunnel.hasRoomForStream, true);
  peer.send(settings([SETTING.MAX_CONCURRENT_STREAMS, 0]));
  await loop.until(() => !client.tunnel.hasRoomForStream, "the new limit");
});

/** What a server may answer, and what becomes of the stream. */
const answers: {
  name: string;
  frames: (peer: H2Peer) => Buffer[];
  status: number | null;
  reset: number | null;
}[] = [
  {
    name: "a 1xx is waited out",
    frames: (peer) => [peer.headersFrame(1, [[":status", "103"]]), peer.headersFrame(1, OK)],
    status: 200,
    reset: null,
  },
  {
    name: "another 2xx is no success",
    frames: (peer) => [peer.headersFrame(1, [[":status", "204"]], END)],
    status: 204,
    reset: ERROR.NO_ERROR,
  },
  {
    name: "an error with a body is not read",
    frames: (peer) => [peer.headersFrame(1, [[":status", "503"]]), data(1, "why")],
    status: 503,
    reset: ERROR.CANCEL,
  },
  {
    name: "no status is the peer's fault",
    frames: (peer) => [peer.headersFrame(1, [["a", "b"]])],
    status: null,
    reset: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "payload before the answer is the peer's fault",
    frames: (peer) => [data(1, "too early"), peer.headersFrame(1, OK)],
    status: null,
    reset: ERROR.PROTOCOL_ERROR,
  },
  {
    name: "a 1xx that ends the stream is the peer's fault",
    frames: (peer) => [peer.headersFrame(1, [[":status", "100"]], END)],
    status: null,
    reset: ERROR.PROTOCOL_ERROR,
  },
];
for (const c of answers)
  test(`to a client, ${c.name}`, async () => {
    using loop = new Loopback();
    const { peers, peer, client } = await rawServer(loop, mesh);
    using _ = peers;
    const stream = client.open();
    await loop.until(() => peer.of(FRAME.HEADERS).length === 1, "the request");
    peer.send(...c.frames(peer), ping("the end!"));
    await loop.until(() => peer.of(FRAME.PING).length === 1, "the PING behind it");
    assert.equal(stream.status, c.status);
    assert.equal(peer.resetCode(1), c.reset);
    assert.equal(stream.received, 0);
    if (c.status === null) assert.equal(stream.reset?.error?.code, "HTTP2");
    assert.equal(client.tunnel.state, "open");
  });

test("200 with END_STREAM is an answer and an end", async () => {
  using loop = new Loopback();
  const { peers, peer, client } = await rawServer(loop, mesh);
  using _ = peers;
  const stream = client.open();
  await loop.until(() => peer.of(FRAME.HEADERS).length === 1, "the request");
  peer.send(peer.headersFrame(1, OK, END));
  await loop.until(() => stream.ends === 1, "the end");
  assert.equal(stream.status, 200);
  stream.send("still open our way");
  await loop.until(() => peer.payloadOf(1).length > 0, "the payload");
});

test("a server that pushes, or says it will, is cut", async () => {
  for (const bad of [
    frame(FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, word(2)),
    settings([SETTING.ENABLE_PUSH, 1]),
    frame(FRAME.HEADERS, FLAG.END_HEADERS, 2, "\x88"),
  ]) {
    using loop = new Loopback();
    const { peers, peer, client } = await rawServer(loop, mesh);
    using _ = peers;
    client.open();
    peer.send(bad);
    await loop.until(() => client.closed !== null && peer.goAwayCode !== null, "the end");
    assert.equal(peer.goAwayCode, ERROR.PROTOCOL_ERROR);
  }
});

async function openStreams(loop: Loopback): Promise<{ peer: H2Peer; server: TestServer }> {
  const { peer, server } = await rawClient(loop, mesh);
  peer.send(peer.connectFrame(1), peer.connectFrame(3, "deny:80", END));
  await loop.until(() => peer.status(3) === "401", "the answers");
  return { peer, server };
}

function settingsOf(payload: Buffer): [number, number][] {
  const entries: [number, number][] = [];
  for (let o = 0; o < payload.length; o += 6)
    entries.push([payload.readUInt16BE(o), payload.readUInt32BE(o + 2)]);
  return entries;
}
