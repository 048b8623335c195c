// TLS sessions on loopback sockets: what crosses, what is refused, and that sessions which share a thread's
// buffers keep apart. Who may speak to whom is tested with the tunnels (lib/hbone/tunnel-handshake.test.ts).
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { testCa } from "#lib/pki/test-ca.ts";
import { parseIp } from "../net/ip.ts";
import { testIdentity } from "../../test/harness/identities.ts";
import { nativeBuffer } from "./memory.ts";
import { closeFd } from "./netns.ts";
import * as raw from "./raw.ts";
import { accept, connectFd, listenTcp, localAddr, tcpSocket } from "./socket.ts";
import * as ssl from "./tls-raw.ts";
import {
  CLOSED,
  TlsContext,
  TlsError,
  type TlsMaterial,
  type TlsSession,
  WOULD_BLOCK,
} from "./tls.ts";

const LOOPBACK = parseIp("127.0.0.1");
const ID = "spiffe://cluster.local/ns/shop/sa/client";
const ca = await testCa();
const { material } = await testIdentity(ca, [ID, "spiffe://second/ns/a/sa/b", "dns.example"]);
const client = new TlsContext(material, "client");
const server = new TlsContext(material, "server");
const otherKey = await testIdentity(ca, [ID]);
after(() => {
  client[Symbol.dispose]();
  server[Symbol.dispose]();
});
const anyone = (): null => null;
const buffer = nativeBuffer(1_048_576);

/** Two ends of a connection; closed with the scope. @param bufferBytes what the kernel holds of each direction */
function socketPair(bufferBytes = 0) {
  const listener = listenTcp({ ip: LOOPBACK, port: 0 });
  const near = tcpSocket({ family: "ipv4" });
  connectFd(near, { ip: LOOPBACK, port: localAddr(listener).port });
  const far = waitFor(() => accept(listener)?.fd, "the connection");
  closeFd(listener);
  const size = nativeBuffer(4);
  size.bytes.writeInt32LE(bufferBytes);
  const [SOL_SOCKET, SO_SNDBUF, SO_RCVBUF] = [1, 7, 8];
  if (bufferBytes > 0)
    for (const fd of [near, far])
      for (const name of [SO_SNDBUF, SO_RCVBUF])
        raw.setsockopt(fd, SOL_SOCKET, name, size.address, 4);
  return {
    near,
    far,
    [Symbol.dispose](): void {
      closeFd(near);
      closeFd(far);
    },
  };
}

function waitFor<T>(look: () => T | undefined, what: string): T {
  for (const deadline = performance.now() + 5_000; performance.now() < deadline; ) {
    const found = look();
    if (found !== undefined) return found;
  }
  throw new Error(`Waited in vain for ${what}`);
}

function shakeHands(...sessions: readonly TlsSession[]): void {
  waitFor(
    () => (sessions.map((s) => s.handshake()).every((step) => step === "done") ? true : undefined),
    "the handshake",
  );
}

function pair() {
  const sockets = socketPair();
  const near = client.open(sockets.near, anyone);
  const far = server.open(sockets.far, anyone);
  shakeHands(near, far);
  return {
    near,
    far,
    [Symbol.dispose](): void {
      near[Symbol.dispose]();
      far[Symbol.dispose]();
      sockets[Symbol.dispose]();
    },
  };
}

function send(session: TlsSession, bytes: Uint8Array | string): number {
  const length = buffer.bytes.write(
    typeof bytes === "string" ? bytes : Buffer.from(bytes).toString("latin1"),
    0,
    "latin1",
  );
  return session.write(buffer.address, length);
}

function receive(session: TlsSession, length: number): string {
  let text = "";
  return waitFor(() => {
    const got = session.read(buffer.address, buffer.size);
    if (got === CLOSED) throw new Error(`closed: ${session.refusal}`);
    if (got > 0) text += buffer.bytes.toString("latin1", 0, got);
    return text.length >= length ? text : undefined;
  }, `${length} bytes`);
}

const keyUpdate = raw.declareFunction<(ssl: number, type: number) => number>(
  "int SSL_key_update(uintptr_t ssl, int type)",
);

/** An OpenSSL client that does what ours never does. */
class RawClient implements Disposable {
  readonly #ctx = ssl.ctxNew(ssl.tlsMethod());
  readonly #ssl: number;

  constructor(fd: number) {
    const leaf = nativeCopy(material.leaf);
    ssl.ctxUseCertificateAsn1(this.#ctx, leaf.size, leaf.address);
    const der = nativeCopy(material.privateKey);
    const pointer = nativeBuffer(8);
    pointer.bytes.writeBigUInt64LE(BigInt(der.address));
    const key = ssl.d2iAutoPrivateKey(0, pointer.address, der.size);
    ssl.ctxUsePrivateKey(this.#ctx, key);
    ssl.pkeyFree(key);
    this.#ssl = ssl.sslNew(this.#ctx);
    ssl.sslSetFd(this.#ssl, fd);
    ssl.sslSetConnectState(this.#ssl);
  }

  handshake(): boolean {
    ssl.errClear();
    return ssl.sslDoHandshake(this.#ssl) === 1;
  }

  askForKeyUpdate(): void {
    keyUpdate(this.#ssl, 1); // SSL_KEY_UPDATE_REQUESTED
    ssl.errClear();
    ssl.sslDoHandshake(this.#ssl);
  }

  write(text: string): void {
    const copy = nativeCopy(Buffer.from(text));
    ssl.errClear();
    assert.equal(ssl.sslWrite(this.#ssl, copy.address, copy.size), copy.size);
  }

  read(length: number): string {
    let text = "";
    return waitFor(() => {
      ssl.errClear();
      const got = ssl.sslRead(this.#ssl, buffer.address, buffer.size);
      if (got > 0) text += buffer.bytes.toString("latin1", 0, got);
      return text.length >= length ? text : undefined;
    }, "bytes");
  }

  [Symbol.dispose](): void {
    ssl.errClear();
    ssl.sslFree(this.#ssl);
    ssl.ctxFree(this.#ctx);
  }
}

function nativeCopy(bytes: Uint8Array) {
  const copy = nativeBuffer(bytes.length);
  copy.bytes.set(bytes);
  return copy;
}

test("both ends learn each other's URI names, in order, and bytes cross", () => {
  using ends = pair();
  assert.deepEqual(ends.near.peerUriSans, [ID, "spiffe://second/ns/a/sa/b"]);
  assert.deepEqual(ends.far.peerUriSans, ends.near.peerUriSans);
  assert.equal(send(ends.near, "to the server"), 13);
  assert.equal(receive(ends.far, 13), "to the server");
  send(ends.far, "to the client");
  assert.equal(receive(ends.near, 13), "to the client");
  assert.equal(ends.near.read(buffer.address, 10), WOULD_BLOCK);
  assert.equal(ends.near.hasPending(), false);
});

test("a write that the socket does not take is finished later, in order", () => {
  using ends = pair();
  const pattern = nativeCopy(Buffer.from(Array.from({ length: 150_000 }, (_, i) => i % 251)));
  let written = 0;
  const step = (): void => {
    const at = written % pattern.size;
    const put = ends.near.write(pattern.address + at, Math.min(16_384, pattern.size - at));
    if (put > 0) written += put;
    else assert.equal(put, WOULD_BLOCK);
  };
  while (!ends.near.isBlocked && written < 100_000_000) step();
  assert.ok(ends.near.isBlocked);
  const before = written;
  let got = 0;
  waitFor(() => {
    const n = ends.far.read(buffer.address, buffer.size);
    for (let i = 0; i < n; i++)
      if (buffer.bytes[i] !== ((got + i) % pattern.size) % 251) assert.fail(`byte ${got + i}`);
    if (n > 0) got += n;
    if (written === before) {
      ends.near.resume();
      step();
    }
    return written > before && got === written ? true : undefined;
  }, "all of it");
  assert.equal(ends.near.isBlocked, false);
});

test("close_notify and a plain close both read as CLOSED, with a reason", () => {
  using ends = pair();
  send(ends.near, "last");
  ends.near.shutdown();
  assert.equal(receive(ends.far, 4), "last");
  waitFor(() => (ends.far.read(buffer.address, 1) === CLOSED ? true : undefined), "the end");
  assert.equal(ends.far.refusal, "closed by peer");
  const sockets = socketPair();
  const far = server.open(sockets.far, anyone);
  closeFd(sockets.near);
  assert.throws(
    () => waitFor(() => (far.handshake() === "done" ? true : undefined), "nothing"),
    (error) => error instanceof TlsError && /eof|closed/.test(error.message),
  );
  far[Symbol.dispose]();
  closeFd(sockets.far);
});

test("garbage is refused by OpenSSL's name for it, and hurts no other session of the thread", () => {
  using good = pair();
  const sockets = socketPair();
  const far = server.open(sockets.far, anyone);
  buffer.bytes.write("GET / HTTP/1.1\r\n\r\n");
  raw.write(sockets.near, buffer.address, 18);
  assert.throws(
    () => waitFor(() => (far.handshake() === "done" ? true : undefined), "nothing"),
    (error) => error instanceof TlsError && /http request|wrong version/.test(error.message),
  );
  // without disposing it first: OpenSSL's queue of errors belongs to the thread
  assert.equal(good.near.read(buffer.address, 1), WOULD_BLOCK);
  send(good.near, "fine");
  assert.equal(receive(good.far, 4), "fine");
  far[Symbol.dispose]();
  sockets[Symbol.dispose]();
});

test("a peer refused by its names leaves the thread's other sessions alone", () => {
  using good = pair();
  using sockets = socketPair();
  using near = client.open(sockets.near, anyone);
  using far = server.open(sockets.far, () => "not these names");
  let refusal: unknown = null;
  waitFor(() => {
    try {
      near.handshake();
      far.handshake();
    } catch (error) {
      refusal = error;
    }
    return refusal === null ? undefined : true;
  }, "the refusal");
  assert.ok(refusal instanceof TlsError && refusal.message === "not these names");
  assert.equal(good.near.read(buffer.address, 1), WOULD_BLOCK);
  assert.equal(good.far.read(buffer.address, 1), WOULD_BLOCK);
  waitFor(() => (near.read(buffer.address, 1) === CLOSED ? true : undefined), "the alert");
  assert.match(near.refusal ?? "", /alert certificate unknown/);
  assert.equal(good.near.read(buffer.address, 1), WOULD_BLOCK);
});

test("a KeyUpdate that comes while our own bytes wait for the socket hurts nobody", () => {
  using sockets = socketPair();
  using far = server.open(sockets.far, anyone);
  using asking = new RawClient(sockets.near);
  waitFor(() => {
    const isNear = asking.handshake();
    return far.handshake() === "done" && isNear ? true : undefined;
  }, "the handshake");
  const block = nativeCopy(Buffer.alloc(16_384, "z"));
  let written = 0;
  while (!far.isBlocked) written += Math.max(0, far.write(block.address, block.size));
  asking.askForKeyUpdate();
  asking.write("a question");
  assert.equal(receive(far, 10), "a question");
  let got = 0;
  waitFor(() => {
    got += asking.read(1).length;
    if (far.isBlocked) {
      far.resume();
      written += Math.max(0, far.write(block.address, block.size));
    }
    return !far.isBlocked && got === written ? true : undefined;
  }, "what waited");
  assert.equal(send(far, "under the new key"), 17);
  assert.equal(asking.read(17), "under the new key");
});

test("answers to KeyUpdate go to the peer that asked, not out with the next session's bytes", () => {
  using other = pair();
  using sockets = socketPair();
  using far = server.open(sockets.far, anyone);
  const asking = new RawClient(sockets.near);
  waitFor(() => {
    const isNear = asking.handshake();
    return far.handshake() === "done" && isNear ? true : undefined;
  }, "the handshake");
  asking.write("data right ");
  asking.askForKeyUpdate();
  asking.askForKeyUpdate(); // OpenSSL answers the first on its way through the second, to the data behind
  asking.write("behind ");
  asking.write("the question");
  assert.equal(receive(far, 30), "data right behind the question");
  // with the answer left in the shared ring, this would carry it along
  send(other.near, "untouched");
  assert.equal(receive(other.far, 9), "untouched");
  send(far, "under the new key");
  assert.equal(asking.read(17), "under the new key");
  asking[Symbol.dispose]();
});

const badMaterials: { name: string; change: Partial<TlsMaterial>; reason: RegExp }[] = [
  { name: "leaf", change: { leaf: Buffer.from("no DER") }, reason: /refused the leaf certificate/ },
  {
    name: "intermediate",
    change: { chain: [Buffer.alloc(10)] },
    reason: /refused the intermediate certificate/,
  },
  { name: "root", change: { roots: [Buffer.alloc(0)] }, reason: /refused the root certificate/ },
  {
    name: "private key",
    change: { privateKey: Buffer.from("3003020100", "hex") },
    reason: /refused the private key/,
  },
  {
    name: "private key of another certificate",
    change: { privateKey: otherKey.material.privateKey },
    reason: /must match the leaf certificate/,
  },
];
for (const c of badMaterials)
  test(`a context is not made from a bad ${c.name}`, () => {
    using good = pair();
    assert.throws(
      () => new TlsContext({ ...material, ...c.change }, "server"),
      (error) => error instanceof TlsError && c.reason.test(error.message),
    );
    assert.equal(good.near.read(buffer.address, 1), WOULD_BLOCK, "others go on");
  });

test("a disposed context makes no sessions, and those it made go on", () => {
  const rotated = new TlsContext(material, "client");
  using sockets = socketPair();
  using near = rotated.open(sockets.near, anyone);
  rotated[Symbol.dispose]();
  rotated[Symbol.dispose]();
  assert.throws(() => rotated.open(sockets.near, anyone), TlsError);
  using far = server.open(sockets.far, anyone);
  shakeHands(near, far);
});

test("many sessions at once keep their bytes apart", () => {
  using stack = new DisposableStack();
  const pairs = Array.from({ length: 20 }, () => stack.use(pair()));
  for (let round = 0; round < 5; round++) {
    for (const [i, { near, far }] of pairs.entries()) {
      send(near, `${round} near ${i} `.repeat(1_000));
      send(far, `${round} far ${i} `.repeat(10));
    }
    for (const [i, { near, far }] of pairs.entries()) {
      const wantFar = `${round} near ${i} `.repeat(1_000);
      const wantNear = `${round} far ${i} `.repeat(10);
      assert.equal(receive(far, wantFar.length), wantFar);
      assert.equal(receive(near, wantNear.length), wantNear);
    }
  }
});
