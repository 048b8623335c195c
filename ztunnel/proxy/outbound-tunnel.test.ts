// An application's connection through a tunnel, without a namespace: what it hears and what is told of it when
// the peer never answers, and when the application takes it back.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { PeerBook } from "#lib/hbone/peer-book.ts";
import { HbonePool } from "#lib/hbone/pool.ts";
import type { HboneDecision } from "#lib/model/outbound.ts";
import type { SpiffeId } from "#lib/net/spiffe.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { accept, listenTcp, localAddr } from "#lib/sys/socket.ts";
import { AccessLog } from "#lib/proxy/telemetry/access-log.ts";
import type { WhenReady } from "#lib/proxy/identities.ts";
import { Telemetry } from "#lib/proxy/telemetry/telemetry.ts";
import { CART, STOCK, STOCK_SERVICE } from "#lib/proxy/telemetry/test-connection.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import { Loopback, LOOPBACK, SERVER_ID, testMesh } from "../../test/harness/loopback.ts";
import type { DataPlaneContext } from "./data-plane-context.ts";
import { OutboundTunnel } from "./outbound-tunnel.ts";
import type { Pod } from "./pod.ts";

const mesh = await testMesh();

/** An application's socket and our end of it. */
async function application(loop: Loopback): Promise<{ app: Socket; fd: number }> {
  const listener = listenTcp({ ip: LOOPBACK, port: 0 });
  const app = connect(localAddr(listener).port, "127.0.0.1");
  app.on("error", () => {});
  await loop.turning(once(app, "connect"));
  const fd = accept(listener)?.fd ?? assert.fail();
  closeFd(listener);
  return { app, fd };
}

function setup(loop: Loopback, authority: string) {
  const { reactor } = loop;
  const server = loop.listen(mesh.serverContext);
  const lines: string[] = [];
  const emit = (bytes: Uint8Array): number => lines.push(Buffer.from(bytes).toString());
  const log = new AccessLog({ level: "info", format: "plain", emit });
  const telemetry = new Telemetry(reactor, log);
  const contexts = { client: mesh.clientContext, server: mesh.serverContext };
  const context = {
    reactor,
    telemetry,
    peers: new PeerBook(),
    config: { keepalive: null },
    identities: { use: (_id: string, _now: number, then: WhenReady) => then(contexts, "") },
    randomUint32: () => 1,
  } as unknown as DataPlaneContext;
  const pool = new HbonePool({ reactor, maxStreams: 100, idleMs: 300_000 });
  const live = new Set<Live>();
  const pod = { context, pool, live, identity: "spiffe://a", enter: () => {} } as unknown as Pod;
  const decision: HboneDecision = {
    kind: "hbone",
    nextHop: { ip: LOOPBACK, port: server.port },
    authority,
    expectedIdentities: [SERVER_ID as SpiffeId],
    destination: STOCK,
    upstream: STOCK,
    service: STOCK_SERVICE,
    via: null,
  };
  return {
    server,
    telemetry,
    live,
    pool,
    open: (fd: number): void => {
      telemetry.socketsOpen.source++;
      const peer = { ip: LOOPBACK, port: 5 };
      new OutboundTunnel({ pod, fd, peer, destination: peer, source: CART }, decision).start();
    },
    end: () => telemetry.events.since(0).find(({ event }) => event !== "open"),
    log: (): string => {
      log.flush();
      return lines.join("");
    },
  };
}

test("a peer that never answers CONNECT: the application is let go after 15 s, and the peer named", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const one = setup(loop, "late:80");
  const { app, fd } = await application(loop);
  one.open(fd);
  await loop.until(() => one.server.streams.length === 1, "the request");
  for (let s = 0; s < 17; s++) {
    nowMs += 1_000;
    await loop.settle(4);
  }
  app.resume();
  await loop.until(() => one.end() !== undefined && app.closed, "the end");
  assert.equal((app.errored as NodeJS.ErrnoException | null)?.code, "ECONNRESET", "no clean end");
  const end = one.end();
  assert.deepEqual(
    [end?.event, end?.flags, end?.reason, end?.detail],
    ["error", "CONNECT", "connect_timeout", "late:80: No answer to CONNECT within 15 s"],
  );
  assert.match(one.log(), /\terror\t.* error="late:80: No answer to CONNECT within 15 s"/);
  assert.deepEqual([one.live.size, one.telemetry.socketsOpen.source], [0, 0]);
  assert.equal(one.server.streams[0]?.resets.length, 1);
  assert.equal(one.pool.size, 1, "the tunnel lives");
  app.destroy();
});

for (const sends of [false, true])
  test(`an application that resets its connection${sends ? " amid its answer" : ""} is told of, but no error`, async () => {
    using loop = new Loopback();
    const one = setup(loop, "echo:80");
    const { app, fd } = await application(loop);
    one.open(fd);
    await loop.until(() => one.server.streams[0]?.isEstablished === true, "the request");
    app.write("hello");
    await loop.until(() => one.server.streams[0]?.text === "hello", "the payload");
    if (sends) one.server.streams[0]?.send(Buffer.alloc(2_000_000));
    app.pause();
    await loop.settle(20);
    app.resetAndDestroy();
    await loop.until(() => one.server.streams[0]?.ends === 1, "an orderly end at the peer");
    one.server.streams[0]?.end();
    await loop.until(() => one.end() !== undefined, "the end");
    assert.deepEqual(
      [one.end()?.event, one.end()?.flags, one.end()?.reason],
      ["close", "-", "client_reset"],
    );
    assert.match(one.log(), /\tinfo\taccess\tconnection complete\t.* reason="client_reset"\n/);
    assert.equal(one.live.size, 0);
  });

test("an application that ends in order is no reset", async () => {
  using loop = new Loopback();
  const one = setup(loop, "echo:80");
  const { app, fd } = await application(loop);
  one.open(fd);
  app.end("bye");
  await loop.until(() => one.server.streams[0]?.ends === 1, "the end at the peer");
  one.server.streams[0]?.end();
  await loop.until(() => one.end() !== undefined, "the end");
  assert.deepEqual([one.end()?.event, one.end()?.reason], ["close", undefined]);
});
