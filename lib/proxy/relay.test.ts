// A stream joined to a stream of another tunnel, and to a plain socket: every byte once and in order, ends and resets
// passed on, and no more held than was granted, however slow one side is.
import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { test } from "node:test";
import { connectFd, tcpSocket } from "#lib/sys/socket.ts";
import { ERROR } from "#lib/wire/http2.ts";
import {
  LOOPBACK,
  Loopback,
  testMesh,
  TestServer,
  type TestClient,
  type TestStream,
} from "../../test/harness/loopback.ts";
import { STREAM_WINDOW_START } from "#lib/hbone/limits.ts";
import { RelayStream } from "./relay.ts";
import { SocketEnd } from "./socket-end.ts";
import type { ConnectRequest, Tunnel } from "#lib/hbone/tunnel.ts";

const mesh = await testMesh();

class End extends RelayStream {
  isPassed = false;
  code = -1;
  whenAnswered: () => void = () => {};

  onResponse(): void {
    this.whenAnswered();
  }

  onReset(code: number): void {
    this.code = code;
  }

  protected onPassed(): void {
    this.isPassed = true;
  }
}

/** Joins each CONNECT to a stream of another tunnel. */
class RelayServer extends TestServer {
  onward!: TestClient;
  client!: End;
  backend!: End;

  override onConnect(tunnel: Tunnel, id: number, _r: ConnectRequest, isEnded: boolean): void {
    const client = new End();
    const backend = new End();
    this.client = client;
    this.backend = backend;
    tunnel.bind(client, id, isEnded);
    backend.whenAnswered = () => {
      tunnel.respond(client, 200, [[":status", "200"]]);
      client.join(backend, backend);
      backend.join(client, client);
    };
    this.onward.tunnel.openStream(backend, [
      [":method", "CONNECT"],
      [":authority", "echo:80"],
    ]);
  }
}

async function relayed(loop: Loopback): Promise<{
  readonly relay: RelayServer;
  readonly client: TestStream;
  readonly server: TestStream;
}> {
  const far = loop.listen(mesh.serverContext);
  const relay = new RelayServer(loop.reactor, mesh.serverContext, () => null, {});
  relay.onward = loop.dial(far.port, mesh.clientContext);
  const near = loop.dial(relay.port, mesh.clientContext);
  await loop.until(() => near.isOpen && relay.onward.isOpen, "the tunnels");
  const client = near.open();
  await loop.until(() => client.status === 200 && far.streams.length === 1, "the answer");
  const server = far.streams[0] ?? assert.fail();
  return { relay, client, server };
}

/** Bytes that tell their position. */
function pattern(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeUInt32LE(i, i);
  return bytes;
}

test("large payloads pass both ways at once, byte for byte, and half-closes with them", async () => {
  using loop = new Loopback();
  const { relay, client, server } = await relayed(loop);
  using _ = relay;
  const up = pattern(3_000_000);
  const down = pattern(5_000_000).reverse();
  client.send(up);
  client.end();
  server.send(down);
  await loop.until(() => server.received === up.length && server.ends === 1, "the way there");
  assert.ok(Buffer.concat(server.chunks).equals(up));
  assert.equal(client.ends, 0);
  server.end();
  await loop.until(() => client.ends === 1, "the way back");
  assert.ok(Buffer.concat(client.chunks).equals(down));
  assert.ok(relay.client.isPassed && relay.backend.isPassed);
  assert.equal(relay.client.received, up.length);
  assert.equal(relay.client.sent, down.length);
  assert.deepEqual([client.resets, server.resets], [[], []]);
});

test("single bytes pass one by one", async () => {
  using loop = new Loopback();
  const { relay, client, server } = await relayed(loop);
  using _ = relay;
  for (let i = 0; i < 64; i++) {
    client.send(String.fromCharCode(65 + (i % 26)));
    await loop.until(() => server.received === i + 1, "the byte");
  }
  assert.equal(server.text.slice(0, 26), "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
});

test("a slow reader slows the sender: no more is held than was granted, and all of it arrives", async () => {
  using loop = new Loopback();
  const { relay, client, server } = await relayed(loop);
  using _ = relay;
  server.isReading = false;
  const bytes = pattern(4_000_000);
  client.send(bytes);
  client.end();
  await loop.settle(200);
  assert.ok(relay.client.isHolding);
  const { recvWindowSize } = relay.client; // twice the first one: the start was fast
  assert.ok(recvWindowSize <= 2 * STREAM_WINDOW_START);
  assert.ok(relay.tunnel.backlog <= recvWindowSize, `${relay.tunnel.backlog} held`);
  assert.ok(client.sent < bytes.length);
  server.take();
  await loop.until(() => server.received === bytes.length && server.ends === 1, "the rest");
  assert.ok(Buffer.concat(server.chunks).equals(bytes));
  assert.equal(relay.tunnel.backlog, 0);
});

test("what is aborted gives back what it held, and its peer is reset", async () => {
  using loop = new Loopback();
  const { relay, client, server } = await relayed(loop);
  using _ = relay;
  server.isReading = false;
  client.send(pattern(2_000_000));
  await loop.until(() => relay.client.isHolding, "something held");
  const { tunnel } = relay;
  relay.client.abort(ERROR.CANCEL);
  relay.backend.abort(ERROR.CANCEL);
  assert.equal(tunnel.backlog, 0);
  await loop.until(() => client.resets.length === 1 && server.resets.length === 1, "the resets");
  assert.equal(client.reset?.code, ERROR.CANCEL);
});

test("a reset is told with its code", async () => {
  using loop = new Loopback();
  const { relay, server } = await relayed(loop);
  using _ = relay;
  server.tunnel?.resetStream(server, ERROR.INTERNAL_ERROR);
  await loop.until(() => relay.backend.code === ERROR.INTERNAL_ERROR, "the reset");
});

async function tcpServer(serve: (socket: Socket) => void): Promise<Server & AsyncDisposable> {
  const server = createServer({ allowHalfOpen: true }, serve).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** Joins each CONNECT to a plain socket. */
class PlainRelay extends TestServer {
  loop!: Loopback;
  to = 0;
  client!: End;
  end!: SocketEnd;
  told: string[] = [];

  override onConnect(tunnel: Tunnel, id: number, _r: ConnectRequest, isEnded: boolean): void {
    const client = new End();
    this.client = client;
    tunnel.bind(client, id, isEnded);
    const fd = tcpSocket({ family: "ipv4" });
    connectFd(fd, { ip: LOOPBACK, port: this.to });
    this.end = new SocketEnd(this.loop.reactor, fd, {
      onConnected: (errno) => {
        this.told.push(`connected ${errno}`);
        if (errno !== 0) return tunnel.respond(client, 503, [[":status", "503"]]);
        tunnel.respond(client, 200, [[":status", "200"]]);
        this.end.join(client);
      },
      onPassed: () => this.told.push("passed"),
      onDead: () => this.told.push("dead"),
    });
  }
}

async function plain(loop: Loopback, port: number): Promise<[PlainRelay, TestStream]> {
  const relay = new PlainRelay(loop.reactor, mesh.serverContext, () => null, {});
  relay.loop = loop;
  relay.to = port;
  const near = loop.dial(relay.port, mesh.clientContext);
  await loop.until(() => near.isOpen, "the tunnel");
  const client = near.open();
  await loop.until(() => client.status !== null, "the answer");
  return [relay, client];
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

test("a plain socket: bytes both ways, however slow it reads, and half-closes", async () => {
  using loop = new Loopback();
  const size = 3_000_000;
  let received = 0;
  await using server = await tcpServer((socket) => {
    socket.pause();
    setTimeout(() => socket.resume(), 100);
    socket.on("data", (chunk) => (received += chunk.length));
    socket.on("end", () => socket.end(pattern(size)));
  });
  const [relay, client] = await plain(loop, portOf(server));
  using _ = relay;
  client.send(pattern(size));
  client.end();
  await loop.until(() => client.ends === 1, "the answer's end");
  assert.equal(received, size);
  assert.ok(Buffer.concat(client.chunks).equals(pattern(size)));
  assert.deepEqual(relay.told, ["connected 0", "passed"]);
  assert.ok(relay.client.isPassed);
  relay.end.close(false);
  relay.end.close(false);
});

test("a socket nobody listens on, and one that goes away while we send", async () => {
  using loop = new Loopback();
  const gone = await tcpServer(() => {});
  const port = portOf(gone);
  await gone[Symbol.asyncDispose]();
  const [refused, first] = await plain(loop, port);
  using _ = refused;
  assert.equal(first.status, 503);
  refused.end.close(false);
  await using server = await tcpServer((socket) => {
    socket.on("error", () => {});
    socket.end("bye");
    setTimeout(() => socket.resetAndDestroy(), 20);
  });
  const [relay, client] = await plain(loop, portOf(server));
  using __ = relay;
  await loop.until(() => client.ends === 1, "the end");
  assert.equal(client.text, "bye");
  await loop.until(() => {
    client.send("more");
    return relay.told.includes("dead");
  }, "the news");
  relay.end.close(true);
});
