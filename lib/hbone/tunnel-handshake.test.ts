// Who may open a tunnel with whom: identities, trust, validity, purpose, ALPN and version, over real sockets.
import assert from "node:assert/strict";
import { connect, type ConnectionOptions } from "node:tls";
import { after, test } from "node:test";
import { testCa } from "#lib/pki/test-ca.ts";
import { TlsContext } from "#lib/sys/tls.ts";
import { H2Peer, H2PeerServer, settings } from "../../test/harness/h2-peer.ts";
import { testIdentity, type TestIdentity } from "../../test/harness/identities.ts";
import { Loopback } from "../../test/harness/loopback.ts";

const CLIENT_ID = "spiffe://cluster.local/ns/shop/sa/client";
const SERVER_ID = "spiffe://cluster.local/ns/shop/sa/server";
const ca = await testCa();
const otherCa = await testCa();
const otherRoot = otherCa.roots[0]?.der ?? assert.fail();
const client = await testIdentity(ca, [CLIENT_ID]);
const server = await testIdentity(ca, [SERVER_ID]);
const clientContext = new TlsContext(client.material, "client");
const serverContext = new TlsContext(server.material, "server");
after(() => {
  clientContext[Symbol.dispose]();
  serverContext[Symbol.dispose]();
});

const expecting = (id: string) => (sans: readonly string[]) =>
  sans.includes(id) ? null : `expected ${id}, the peer shows ${sans.join()}`;
const sameDomain = (sans: readonly string[]) =>
  sans.some((san) => san.startsWith("spiffe://cluster.local/")) ? null : "another trust domain";

test("both ends open and know each other's identities", async () => {
  using loop = new Loopback();
  const listening = loop.listen(serverContext, sameDomain);
  const dialled = loop.dial(listening.port, clientContext, expecting(SERVER_ID));
  await loop.until(() => dialled.isOpen && listening.opened === 1, "the handshake");
  assert.deepEqual(dialled.tunnel.peerUriSans, [SERVER_ID]);
  assert.deepEqual(listening.tunnel.peerUriSans, [CLIENT_ID]);
});

test("a server with another identity than expected is refused by name", async () => {
  using loop = new Loopback();
  const listening = loop.listen(serverContext);
  const dialled = loop.dial(listening.port, clientContext, expecting("spiffe://a/ns/b/sa/c"));
  await loop.until(() => dialled.closed !== null && listening.closed.length === 1, "the refusal");
  assert.equal(dialled.closed?.code, "PEER_IDENTITY");
  assert.match(dialled.closed?.message ?? "", /expected spiffe:\/\/a\/ns\/b\/sa\/c, .*sa\/server/);
  assert.match(listening.closed[0]?.message ?? "", /alert certificate unknown/);
});

test("a connection that nobody accepts tells its errno, and ends once", async () => {
  using loop = new Loopback();
  const port = loop.listen(serverContext).port;
  using gone = new Loopback();
  const closedPort = gone.listen(serverContext).port;
  gone[Symbol.dispose]();
  const dialled = loop.dial(closedPort, clientContext);
  await loop.until(() => dialled.closed !== null, "the failure");
  assert.equal(dialled.closed?.code, "CONNECT");
  assert.match(dialled.closed?.message ?? "", /ECONNREFUSED/);
  assert.notEqual(port, closedPort);
});

test("a context disposed while the connection is still being made serves it all the same", async () => {
  using loop = new Loopback();
  const listening = loop.listen(serverContext);
  const rotated = new TlsContext(client.material, "client");
  const dialled = loop.dial(listening.port, rotated);
  rotated[Symbol.dispose]();
  await loop.until(() => dialled.isOpen, "the handshake");
});

test("a context that is gone fails the tunnel by name, not the thread", async () => {
  using loop = new Loopback();
  const gone = new TlsContext(client.material, "client");
  gone[Symbol.dispose]();
  const dialled = loop.dial(loop.listen(serverContext).port, gone);
  await loop.until(() => dialled.closed !== null, "the failure");
  assert.match(dialled.closed?.message ?? "", /cannot start/);
});

/** Clients that Node's TLS plays; what our server says, and the alert they get. */
const HOUR_MS = 3_600_000;
const refusedClients: {
  name: string;
  identity: () => Promise<TestIdentity>;
  reason: RegExp;
  alert: RegExp;
}[] = [
  {
    name: "of another trust domain",
    identity: () => testIdentity(ca, ["spiffe://elsewhere/ns/shop/sa/client"]),
    reason: /another trust domain/,
    alert: /CERTIFICATE_UNKNOWN/,
  },
  {
    name: "without an identity",
    identity: () => testIdentity(ca, ["client.example"]),
    reason: /another trust domain/,
    alert: /CERTIFICATE_UNKNOWN/,
  },
  {
    name: "of an unknown authority",
    identity: async () => ({ ...(await testIdentity(otherCa, [CLIENT_ID])), rootPem: ca.rootPem }),
    reason: /unable to get (local )?issuer certificate/,
    alert: /UNKNOWN_CA/,
  },
  {
    name: "whose certificate has expired",
    identity: () =>
      testIdentity(ca, [CLIENT_ID], {
        notBeforeMs: Date.now() - 2 * HOUR_MS,
        notAfterMs: Date.now() - HOUR_MS,
      }),
    reason: /certificate has expired/,
    alert: /CERTIFICATE_EXPIRED/,
  },
  {
    name: "whose certificate is not valid yet",
    identity: () => testIdentity(ca, [CLIENT_ID], { notBeforeMs: Date.now() + HOUR_MS / 2 }),
    reason: /not yet valid/,
    alert: /CERTIFICATE_EXPIRED/,
  },
  {
    name: "whose certificate is for another purpose",
    identity: () => testIdentity(ca, [CLIENT_ID], { flaw: "code-signing" }),
    reason: /unsuitable certificate purpose/,
    alert: /UNSUPPORTED_CERTIFICATE/,
  },
  {
    name: "whose certificate is an authority's",
    identity: () => testIdentity(ca, [CLIENT_ID], { flaw: "ca" }),
    reason: /CA certificate/,
    alert: /CERTIFICATE_UNKNOWN/,
  },
];

for (const c of refusedClients)
  test(`a client ${c.name} is refused, and both ends can say why`, async () => {
    using loop = new Loopback();
    const listening = loop.listen(serverContext, sameDomain);
    const outcome = tlsOutcome(listening.port, await c.identity());
    await loop.until(() => listening.closed.length === 1 && outcome.text !== "", "the refusal");
    assert.equal(listening.closed[0]?.code, "PEER_IDENTITY");
    assert.match(listening.closed[0]?.message ?? "", c.reason);
    assert.match(outcome.text, c.alert);
  });

const wrongProtocols: {
  name: string;
  options: ConnectionOptions;
  reason: RegExp;
  alert: RegExp;
}[] = [
  {
    name: "that offers ALPN without h2",
    options: { ALPNProtocols: ["http/1.1", "h3"] },
    reason: /no application protocol/,
    alert: /NO_APPLICATION_PROTOCOL/,
  },
  {
    name: "that speaks TLS 1.2 at most",
    options: { ALPNProtocols: ["h2"], maxVersion: "TLSv1.2" },
    reason: /unsupported protocol/,
    alert: /PROTOCOL_VERSION/,
  },
  {
    name: "that offers ChaCha20 alone",
    options: {
      ALPNProtocols: ["h2"],
      ciphers: "TLS_CHACHA20_POLY1305_SHA256",
      minVersion: "TLSv1.3",
    },
    reason: /no shared cipher/,
    alert: /HANDSHAKE_FAILURE/,
  },
];
for (const c of wrongProtocols)
  test(`a client ${c.name} is refused`, async () => {
    using loop = new Loopback();
    const listening = loop.listen(serverContext);
    const outcome = tlsOutcome(listening.port, client, c.options);
    await loop.until(() => listening.closed.length === 1 && outcome.text !== "", "the refusal");
    assert.equal(listening.closed[0]?.code, "TLS");
    assert.match(listening.closed[0]?.message ?? "", c.reason);
    assert.match(outcome.text, c.alert);
  });

test("a client that shows no certificate is refused", async () => {
  using loop = new Loopback();
  const listening = loop.listen(serverContext);
  const outcome = tlsOutcome(listening.port, client, {
    ALPNProtocols: ["h2"],
    cert: undefined,
    key: undefined,
  });
  await loop.until(() => listening.closed.length === 1 && outcome.text !== "", "the refusal");
  assert.match(listening.closed[0]?.message ?? "", /did not return a certificate/);
  assert.match(outcome.text, /CERTIFICATE_REQUIRED/);
});

test("a client that offers no ALPN at all is served", async () => {
  using loop = new Loopback();
  const listening = loop.listen(serverContext);
  using peer = await loop.turning(H2Peer.connect(listening.port, client, settings(), {}));
  assert.equal(peer.socket.alpnProtocol, false);
  await loop.until(() => listening.opened === 1 && peer.frames.length > 0, "our SETTINGS");
});

test("a server that selects no ALPN is used", async () => {
  using loop = new Loopback();
  using peers = await H2PeerServer.listen(server, settings(), { ALPNProtocols: [] });
  const dialled = loop.dial(peers.port, clientContext, expecting(SERVER_ID));
  await loop.until(() => dialled.isOpen, "the handshake");
});

test("a server that refuses our certificate is told from one that closes", async () => {
  using loop = new Loopback();
  const strict = new TlsContext({ ...server.material, roots: [otherRoot] }, "server");
  const dialled = loop.dial(loop.listen(strict).port, clientContext, expecting(SERVER_ID));
  await loop.until(() => dialled.closed !== null, "the refusal");
  assert.match(dialled.closed?.message ?? "", /alert unknown ca/);
  assert.equal(dialled.closed?.code, "TLS");
  strict[Symbol.dispose]();
});

test("a failed handshake leaves the other tunnels of the thread alone", async () => {
  using loop = new Loopback();
  const listening = loop.listen(serverContext, sameDomain);
  const good = loop.dial(listening.port, clientContext);
  await loop.until(() => good.isOpen, "the handshake");
  const stream = good.open();
  await loop.until(() => stream.status === 200, "the answer");
  const expired = { notBeforeMs: Date.now() - 2 * HOUR_MS, notAfterMs: Date.now() - HOUR_MS };
  for (const bad of [
    await testIdentity(ca, ["spiffe://elsewhere/ns/a/sa/b"]),
    await testIdentity(ca, [CLIENT_ID], expired),
  ]) {
    const before = listening.closed.length;
    tlsOutcome(listening.port, bad);
    await loop.until(() => listening.closed.length > before, "the refusal");
    stream.send("still here");
    listening.streams[0]?.send("and here");
    await loop.settle();
  }
  assert.equal(good.closed, null);
  assert.equal(listening.streams[0]?.text, "still herestill here");
  assert.equal(stream.text, "and hereand here");
});

test("a peer that says nothing is given up after ten seconds, connecting or shaking hands", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const listening = loop.listen(serverContext);
  const socket = (await import("node:net")).connect(listening.port, "127.0.0.1");
  socket.on("error", () => {});
  await loop.until(() => listening.tunnels.length === 1, "the connection");
  nowMs += 9_900;
  await loop.settle();
  assert.equal(listening.closed.length, 0);
  nowMs += 200;
  await loop.until(() => listening.closed.length === 1, "the timeout");
  assert.equal(listening.closed[0]?.message, "No TLS handshake within 10000 ms");
  socket.destroy();
});

function tlsOutcome(
  port: number,
  identity: TestIdentity,
  options: ConnectionOptions = { ALPNProtocols: ["h2"] },
): { text: string } {
  const outcome = { text: "" };
  const socket = connect({
    host: "127.0.0.1",
    port,
    cert: identity.certPem,
    key: identity.keyPem,
    ca: identity.rootPem,
    checkServerIdentity: () => undefined,
    ...options,
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    outcome.text ||= `${error.code} ${error.message}`;
  });
  socket.on("close", () => {
    outcome.text ||= "closed";
  });
  socket.on("secureConnect", () => socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
  socket.resume();
  return outcome;
}
