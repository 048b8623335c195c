// What a peer finds when it dials again: its budgets as it left them, and its held bytes still counted.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR, FLAG, FRAME } from "#lib/wire/http2.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { listenTcp, localAddr } from "#lib/sys/socket.ts";
import { data, frame, type H2Peer, ping, rstStream, settings } from "../../test/harness/h2-peer.ts";
import {
  CLIENT_ID,
  Loopback,
  LOOPBACK,
  rawClient,
  testMesh,
  type TestServer,
} from "../../test/harness/loopback.ts";
import * as limit from "./limits.ts";
import { PeerBook } from "./peer-book.ts";
import type { HandshakeOutcome } from "./tunnel.ts";

const mesh = await testMesh();
const END = FLAG.END_HEADERS | FLAG.END_STREAM;

function listening(loop: Loopback, book = new PeerBook()): TestServer {
  return loop.listen(mesh.serverContext, () => null, { peer: { book, ip: LOOPBACK } });
}

/** Sends `frames` until the connection is cut, at most `most` times; how often it took. */
async function flood(
  loop: Loopback,
  server: TestServer,
  most: number,
  frames: (n: number, peer: H2Peer) => Buffer,
): Promise<number> {
  const { peer } = await rawClient(loop, mesh, settings(), server);
  using _ = peer;
  const before = server.closed.length;
  let n = 0;
  while (server.closed.length === before && n < most) {
    peer.send(...Array.from({ length: 20 }, () => frames(n++, peer)));
    await loop.settle(3);
  }
  return n;
}

for (const c of [
  {
    name: "resets",
    burst: limit.RESET_BUDGET.burst,
    frames: (n: number, peer: H2Peer): Buffer =>
      Buffer.concat([peer.connectFrame(1 + 2 * n, "late:80"), rstStream(1 + 2 * n, ERROR.CANCEL)]),
  },
  { name: "PINGs", burst: limit.CONTROL_BUDGET.burst, frames: () => ping() },
  {
    name: "denied requests",
    burst: limit.DENIAL_BUDGET.burst,
    frames: (n: number, peer: H2Peer): Buffer => peer.connectFrame(1 + 2 * n, "deny:80", END),
  },
  {
    name: "requests for what we are not",
    burst: limit.DENIAL_BUDGET.burst,
    frames: (n: number, peer: H2Peer): Buffer => peer.connectFrame(1 + 2 * n, "bad:80", END),
  },
])
  test(`a peer that is cut for ${c.name} and dials again is cut at once`, async () => {
    let nowMs = 0;
    using loop = new Loopback(() => nowMs);
    const server = listening(loop);
    const first = await flood(loop, server, 2 * c.burst, c.frames);
    assert.ok(first >= c.burst && first < 2 * c.burst, `${first} were taken`);
    assert.match(server.closed[0]?.message ?? "", /ENHANCE_YOUR_CALM/);
    for (let again = 0; again < 3; again++)
      assert.ok((await flood(loop, server, 1_000, c.frames)) <= 40);
    nowMs += 60_000;
    const rested = await flood(loop, server, 2 * c.burst, c.frames);
    assert.ok(rested >= c.burst, "after a while it starts afresh");
  });

test("a tunnel among many of its peer costs no budget by itself", async () => {
  using loop = new Loopback();
  const book = new PeerBook();
  const server = listening(loop, book);
  for (let n = 0; n < 20; n++) {
    const { peer } = await rawClient(loop, mesh, settings([4, 4_194_304]), server);
    peer.send(frame(FRAME.GOAWAY, 0, 0, Buffer.alloc(8)));
    await loop.settle(2);
    peer[Symbol.dispose]();
  }
  const account = book.enter([CLIENT_ID], LOOPBACK, 0);
  let left = 0;
  while (account.control.spend(0)) left++;
  assert.equal(left, limit.CONTROL_BUDGET.burst);
});

test("large header blocks draw on the budget", async () => {
  using loop = new Loopback();
  const server = listening(loop);
  const taken = await flood(loop, server, 2_000, (n, peer) =>
    peer.headersFrame(
      1 + 2 * n,
      [
        [":method", "CONNECT"],
        [":authority", "gone:80"],
        ["x", "~".repeat(limit.FREE_HEADER_BLOCK)],
      ],
      END,
    ),
  );
  assert.ok(taken < 600);
  assert.match(server.closed[0]?.message ?? "", /too many large header blocks/);
});

test("bytes that a peer's streams left behind still count in its next tunnel", async () => {
  using loop = new Loopback();
  const server = listening(loop);
  const block = Buffer.alloc(limit.STREAM_WINDOW_START);
  let held = 0;
  let tunnels = 0;
  /** Fills streams nobody reads and resets them in order, so that their bytes stay for the application. */
  const fill = async (): Promise<number> => {
    const { peer } = await rawClient(loop, mesh, settings(), server);
    using _ = peer;
    tunnels++;
    const account = server.tunnel;
    const granted = (): number =>
      peer.of(FRAME.WINDOW_UPDATE, 0).reduce((sum, f) => sum + f.payload.readUInt32BE(0), 65_535);
    let sent = 0;
    for (let id = 1; id < 1_000; id += 2) {
      await loop.settle(2);
      if (granted() - sent < block.length) break;
      peer.send(peer.connectFrame(id));
      await loop.until(() => peer.status(id) === "200", "the answer");
      const stream = server.streams.at(-1) ?? assert.fail();
      stream.isReading = false;
      stream.keepsBytes = false;
      peer.send(data(id, block), rstStream(id, ERROR.CANCEL));
      await loop.until(() => stream.resets.length === 1, "the reset");
      sent += block.length;
    }
    assert.equal(account.backlog, sent);
    return sent;
  };
  for (let n = 0; n < 6; n++) {
    const more = await fill();
    held += more;
    if (more === 0) break;
  }
  assert.ok(held <= limit.PEER_BACKLOG_MAX + 6 * limit.CONNECTION_WINDOW, `${held} in ${tunnels}`);
  assert.ok(held > limit.CONNECTION_BACKLOG_MAX);
});

test("a tunnel whose applications keep up is refilled however much waits in others", async () => {
  using loop = new Loopback();
  const book = new PeerBook();
  const server = listening(loop, book);
  const { peer } = await rawClient(loop, mesh, settings(), server);
  using _ = peer;
  const account = book.enter([CLIENT_ID], LOOPBACK, 0);
  account.held += limit.PEER_BACKLOG_MAX;
  peer.send(peer.connectFrame(1));
  await loop.until(() => peer.status(1) === "200", "the answer");
  const stream = server.streams[0] ?? assert.fail();
  stream.keepsBytes = false;
  const block = Buffer.alloc(131_072);
  for (let sent = 0; sent < 40_000_000; sent += block.length) {
    peer.send(data(1, block));
    await loop.until(() => stream.received === sent + block.length, "the payload");
  }
  assert.equal(server.closed.length, 0);
});

test("each handshake is told of once, with its end", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const seen: string[] = [];
  const onHandshake = (role: string, outcome: HandshakeOutcome, ms: number): void => {
    assert.ok(ms >= 0 && ms <= 11_000);
    seen.push(`${role} ${outcome}`);
  };
  const server = loop.listen(mesh.serverContext, () => null, { onHandshake });
  const good = loop.dial(server.port, mesh.clientContext, () => null, { onHandshake });
  await loop.until(() => good.isOpen && server.opened === 1, "the handshake");
  assert.deepEqual(new Set(seen.splice(0)), new Set(["client ok", "server ok"]));
  good.tunnel.drain();
  await loop.until(() => good.closed !== null && server.closed.length === 1, "the end");
  assert.deepEqual(seen, [], "an end is no handshake");
  const wrong = loop.dial(server.port, mesh.clientContext, () => "not you", { onHandshake });
  await loop.until(() => wrong.closed !== null && server.closed.length === 2, "the refusal");
  assert.deepEqual(new Set(seen.splice(0)), new Set(["client identity", "server tls"]));
  const given = loop.dial(server.port, mesh.clientContext, () => null, { onHandshake });
  given.tunnel.close(wrong.closed ?? assert.fail());
  const deaf = listenTcp({ ip: LOOPBACK, port: 0 });
  loop.dial(localAddr(deaf).port, mesh.clientContext, () => null, { onHandshake });
  for (let s = 0; s < 12; s++) {
    nowMs += 1_000;
    await loop.settle(3);
  }
  // the client that gave up before it had TCP began none; the server waited for it in vain
  assert.deepEqual(seen, ["server tls", "client timeout"]);
  closeFd(deaf);
});
