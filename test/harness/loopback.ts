// Tunnels over loopback TCP in this thread, driven turn by turn: `until` alternates turns of the reactor with
// turns of Node's event loop, so that peers made of Node's own modules run too.
import { setImmediate as nextTurn } from "node:timers/promises";
import { readScratch } from "#lib/hbone/buffers.ts";
import { HboneError } from "#lib/hbone/errors.ts";
import { HboneStream } from "#lib/hbone/stream.ts";
import {
  Tunnel,
  type ConnectRequest,
  type TunnelOptions,
  type TunnelOwner,
} from "#lib/hbone/tunnel.ts";
import { parseIp } from "#lib/net/ip.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { EPOLLIN, Reactor, type FdHandler } from "#lib/sys/reactor.ts";
import { accept, connectFd, listenTcp, localAddr, setOption, tcpSocket } from "#lib/sys/socket.ts";
import { viewOf } from "#lib/sys/raw.ts";
import { TlsContext, type PeerCheck } from "#lib/sys/tls.ts";
import { testCa } from "#lib/pki/test-ca.ts";
import { H2Peer, H2PeerServer, settings } from "./h2-peer.ts";
import { testIdentity, type TestIdentity } from "./identities.ts";

export const LOOPBACK = parseIp("127.0.0.1");
const DEADLINE_MS = 10_000;
const OVER = new HboneError("CLOSING", "The test is over");

export class Loopback implements Disposable {
  readonly reactor: Reactor;
  readonly #undo = new DisposableStack();

  /** @param steadyClock drives timers; advance it between turns */
  constructor(steadyClock?: () => number) {
    this.reactor = this.#undo.use(new Reactor(steadyClock));
  }

  /** @param more further options of the tunnels accepted */
  listen(
    context: TlsContext,
    peerCheck: PeerCheck = () => null,
    more: Partial<TunnelOptions> = {},
  ): TestServer {
    return this.#undo.use(new TestServer(this.reactor, context, peerCheck, more));
  }

  dial(
    port: number,
    context: TlsContext,
    peerCheck: PeerCheck = () => null,
    more: Partial<TunnelOptions> = {},
  ): TestClient {
    const owner = new TestClient();
    this.#undo.defer(() => owner.tunnel.close(OVER));
    const fd = tcpSocket({ family: "ipv4" });
    connectFd(fd, { ip: LOOPBACK, port });
    owner.tunnel = new Tunnel({
      reactor: this.reactor,
      fd,
      isConnecting: true,
      context,
      peerCheck,
      owner,
      ...more,
    });
    return owner;
  }

  /** @throws when the condition does not come true in time */
  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      this.reactor.turn(0);
      if (condition()) return;
      if (performance.now() > deadline) throw new Error(`Waited in vain for ${what}`);
      await nextTurn();
    }
  }

  /** Waits for Node's side while ours turns. */
  async turning<T>(promise: Promise<T>): Promise<T> {
    let isDone = false;
    const done = promise.finally(() => {
      isDone = true;
    });
    await Promise.all([done, this.until(() => isDone, "the peer")]);
    return done;
  }

  /** Lets everything under way settle: for what must not happen. */
  async settle(turns = 50): Promise<void> {
    for (let i = 0; i < turns; i++) {
      this.reactor.turn(0);
      await nextTurn();
    }
  }

  [Symbol.dispose](): void {
    this.#undo.dispose();
  }
}

/** Records what a client's tunnel tells. */
export class TestClient implements TunnelOwner {
  isOpen = false;
  goAways = 0;
  closed: HboneError | null = null;
  tunnel!: Tunnel;

  onOpen(): void {
    this.isOpen = true;
  }

  onGoAway(): void {
    this.goAways++;
  }

  onClosed(_tunnel: Tunnel, error: HboneError): void {
    this.closed = error;
  }

  onConnect(tunnel: Tunnel, streamId: number, _request: ConnectRequest, isEnded: boolean): void {
    tunnel.refuse(streamId, 400, isEnded);
  }

  open(authority = "echo:80", headers: readonly (readonly [string, string])[] = []): TestStream {
    const stream = new TestStream();
    this.tunnel.openStream(stream, [[":method", "CONNECT"], [":authority", authority], ...headers]);
    return stream;
  }
}

/** Accepts, and answers by authority: `echo` 200, `deny` 401, `bad` 400, `gone` 503, `late` not at all. */
export class TestServer implements TunnelOwner, FdHandler, Disposable {
  readonly port: number;
  readonly tunnels: Tunnel[] = [];
  readonly streams: TestStream[] = [];
  readonly requests: ConnectRequest[] = [];
  readonly closed: HboneError[] = [];
  opened = 0;
  goAways = 0;
  readonly #reactor: Reactor;
  readonly #context: TlsContext;
  readonly #peerCheck: PeerCheck;
  readonly #more: Partial<TunnelOptions>;
  readonly #fd: number;

  constructor(
    reactor: Reactor,
    context: TlsContext,
    peerCheck: PeerCheck,
    more: Partial<TunnelOptions>,
  ) {
    this.#reactor = reactor;
    this.#context = context;
    this.#peerCheck = peerCheck;
    this.#more = more;
    this.#fd = listenTcp({ ip: LOOPBACK, port: 0 });
    setOption(this.#fd, "noDelay", 1); // accepted sockets inherit it
    this.port = localAddr(this.#fd).port;
    reactor.add(this.#fd, EPOLLIN, this);
  }

  onReady(): void {
    for (let got = accept(this.#fd); got !== null; got = accept(this.#fd))
      this.tunnels.push(
        new Tunnel({
          reactor: this.#reactor,
          fd: got.fd,
          context: this.#context,
          peerCheck: this.#peerCheck,
          owner: this,
          ...this.#more,
        }),
      );
  }

  /** The only tunnel, or the last. */
  get tunnel(): Tunnel {
    const tunnel = this.tunnels.at(-1);
    if (tunnel === undefined) throw new Error("No tunnel yet");
    return tunnel;
  }

  onOpen(): void {
    this.opened++;
  }

  onGoAway(): void {
    this.goAways++;
  }

  onClosed(_tunnel: Tunnel, error: HboneError): void {
    this.closed.push(error);
  }

  onConnect(tunnel: Tunnel, streamId: number, request: ConnectRequest, isEnded: boolean): void {
    const { method, authority, baggage, forwarded, traceparent, forwardedNetwork } = request;
    this.requests.push({ method, authority, baggage, forwarded, traceparent, forwardedNetwork });
    const host = authority?.split(":")[0];
    if (method !== "CONNECT" || host === "bad") return tunnel.refuse(streamId, 400, isEnded);
    const stream = new TestStream();
    this.streams.push(stream);
    tunnel.bind(stream, streamId, isEnded);
    if (host === "deny") tunnel.respond(stream, 401, [[":status", "401"]]);
    else if (host === "gone") tunnel.respond(stream, 503, [[":status", "503"]]);
    else if (host !== "late") tunnel.respond(stream, 200, [[":status", "200"]]);
  }

  [Symbol.dispose](): void {
    for (const tunnel of this.tunnels) tunnel.close(OVER);
    this.#reactor.remove(this.#fd);
    closeFd(this.#fd);
  }
}

/** Records what its tunnel tells; sends what it is given as the windows allow. */
export class TestStream extends HboneStream {
  status: number | null = null;
  received = 0;
  /** The payload itself; off for large transfers. */
  keepsBytes = true;
  readonly chunks: Buffer[] = [];
  ends = 0;
  resets: { readonly code: number; readonly error: HboneError | null }[] = [];
  sent = 0;
  /** Payload is reported as consumed at once; else by `take`. */
  isReading = true;
  held = 0;
  /** Largest reservation seen. */
  largestRoom = 0;
  #toSend: Buffer = Buffer.alloc(0);
  #endsAfter = false;

  get text(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }

  get reset(): { readonly code: number; readonly error: HboneError | null } | undefined {
    return this.resets[0];
  }

  send(bytes: Uint8Array | string): void {
    const more = typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes;
    this.#toSend =
      this.#toSend.length === 0 ? Buffer.from(more) : Buffer.concat([this.#toSend, more]);
    this.onTurn();
  }

  /** After everything given so far. */
  end(): void {
    this.#endsAfter = true;
    this.onTurn();
  }

  onTurn(): void {
    const { tunnel } = this;
    if (tunnel === null || !this.isEstablished) return;
    while (this.#toSend.length > 0) {
      const room = tunnel.reserve(this);
      if (room === 0) return;
      this.largestRoom = Math.max(this.largestRoom, room);
      const part = this.#toSend.subarray(0, room);
      new Uint8Array(viewOf(tunnel.payloadAddress, part.length)).set(part);
      tunnel.commit(this, part.length);
      this.sent += part.length;
      this.#toSend = this.#toSend.subarray(part.length);
    }
    if (this.#endsAfter) tunnel.endStream(this);
  }

  onResponse(status: number): void {
    this.status = status;
    this.onTurn();
  }

  onData(offset: number, length: number): void {
    this.received += length;
    if (this.keepsBytes)
      this.chunks.push(Buffer.from(readScratch().bytes.subarray(offset, offset + length)));
    if (this.isReading) this.tunnel?.consumed(this, length);
    else {
      this.held += length;
      this.tunnel?.hold(length);
    }
  }

  /** Starts reading: all that was held, and all to come. */
  take(): void {
    this.isReading = true;
    const { held, tunnel } = this;
    this.held = 0;
    if (tunnel === null) return;
    tunnel.release(held);
    tunnel.consumed(this, held);
  }

  onEnd(): void {
    this.ends++;
  }

  onReset(code: number, error: HboneError | null): void {
    this.resets.push({ code, error });
  }
}

/** Two identities of one mesh, and the contexts tests dial and listen with. */
export interface TestMesh {
  readonly client: TestIdentity;
  readonly server: TestIdentity;
  readonly clientContext: TlsContext;
  readonly serverContext: TlsContext;
}

export const CLIENT_ID = "spiffe://cluster.local/ns/shop/sa/client";
export const SERVER_ID = "spiffe://cluster.local/ns/shop/sa/server";

export async function testMesh(): Promise<TestMesh> {
  const ca = await testCa();
  const client = await testIdentity(ca, [CLIENT_ID]);
  const server = await testIdentity(ca, [SERVER_ID]);
  return {
    client,
    server,
    clientContext: new TlsContext(client.material, "client"),
    serverContext: new TlsContext(server.material, "server"),
  };
}

/** An open tunnel between two of ours. */
export async function openPair(
  loop: Loopback,
  mesh: TestMesh,
): Promise<{ client: TestClient; server: TestServer }> {
  const server = loop.listen(mesh.serverContext);
  const client = loop.dial(server.port, mesh.clientContext);
  await loop.until(() => client.isOpen && server.opened === 1, "the handshake");
  return { client, server };
}

/** A raw client of one of our servers, past the exchange of SETTINGS. */
export async function rawClient(
  loop: Loopback,
  mesh: TestMesh,
  greeting: Uint8Array = settings(),
  server: TestServer = loop.listen(mesh.serverContext),
): Promise<{ peer: H2Peer; server: TestServer }> {
  const peer = await loop.turning(H2Peer.connect(server.port, mesh.client, greeting));
  await loop.until(() => peer.frames.length >= 3, "the exchange of SETTINGS");
  return { peer, server };
}

/** A raw server that one of our clients has connected to. */
export async function rawServer(
  loop: Loopback,
  mesh: TestMesh,
  greeting: Uint8Array = settings(),
): Promise<{ peers: H2PeerServer; peer: H2Peer; client: TestClient }> {
  const peers = await H2PeerServer.listen(mesh.server, greeting);
  const client = loop.dial(peers.port, mesh.clientContext);
  await loop.until(
    () => client.isOpen && (peers.peers[0]?.frames.length ?? 0) >= 3,
    "the exchange of SETTINGS",
  );
  return { peers, peer: peers.peer, client };
}
