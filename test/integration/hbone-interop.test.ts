// Our tunnels against stacks that are not ours: Node's http2 (nghttp2 inside) in both roles, OpenSSL's own
// tools, nghttp2's and curl. Unprivileged, on loopback.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ERROR } from "#lib/wire/http2.ts";
import { Loopback, testMesh } from "../harness/loopback.ts";

const mesh = await testMesh();
const dir = mkdtempSync(join(tmpdir(), "ambit-interop-"));
after(() => rmSync(dir, { recursive: true }));
const files = {
  cert: join(dir, "cert.pem"),
  key: join(dir, "key.pem"),
  root: join(dir, "root.pem"),
};
writeFileSync(files.cert, mesh.client.certPem);
writeFileSync(files.key, mesh.client.keyPem, { mode: 0o600 });
writeFileSync(files.root, mesh.client.rootPem);

const TLS = {
  cert: mesh.client.certPem,
  key: mesh.client.keyPem,
  ca: mesh.client.rootPem,
  checkServerIdentity: () => undefined,
};

/** A session of Node's http2 client on one of our servers. */
function nodeClient(port: number, settings: http2.Settings = {}): http2.ClientHttp2Session {
  const session = http2.connect(`https://127.0.0.1:${port}`, { ...TLS, settings });
  session.on("error", () => {});
  return session;
}

function nodeConnect(session: http2.ClientHttp2Session, authority: string) {
  const stream = session.request({ ":method": "CONNECT", ":authority": authority });
  const seen = { status: 0, text: "", bytes: 0, isEnded: false, code: -1, error: "" };
  stream.on("response", (headers) => {
    seen.status = headers[":status"] ?? 0;
  });
  stream.on("data", (chunk: Buffer) => {
    seen.bytes += chunk.length;
    if (seen.text.length < 1_000) seen.text += chunk.toString("latin1");
  });
  stream.on("end", () => {
    seen.isEnded = true;
  });
  stream.on("close", () => {
    seen.code = stream.rstCode;
  });
  stream.on("error", (error) => {
    seen.error = error.message;
  });
  return { stream, seen };
}

/** A server of Node's http2 that answers CONNECT as `onStream` says. */
async function nodeServer(
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  settings: http2.Settings = {},
) {
  const server = http2.createSecureServer({
    cert: mesh.server.certPem,
    key: mesh.server.keyPem,
    ca: mesh.server.rootPem,
    requestCert: true,
    settings,
  });
  const sessions: http2.ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("sessionError", () => {});
  server.on("stream", (stream: http2.ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    onStream(stream, headers);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sessions,
    [Symbol.dispose](): void {
      for (const session of sessions) session.destroy();
      server.close();
    },
  };
}

test("Node's client: CONNECT, payload both ways, half-closes, and each refusal", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const session = nodeClient(server.port);
  const { stream, seen } = nodeConnect(session, "echo:80");
  await loop.until(() => seen.status === 200, "the answer");
  stream.write("from node");
  await loop.until(() => server.streams[0]?.text === "from node", "the payload");
  server.streams[0]?.send("to node");
  await loop.until(() => seen.text === "to node", "the payload back");
  server.streams[0]?.end();
  await loop.until(() => seen.isEnded, "our end");
  stream.end(" and on");
  await loop.until(() => server.streams[0]?.ends === 1, "Node's end");
  assert.equal(server.streams[0]?.text, "from node and on");
  await loop.until(() => seen.code === ERROR.NO_ERROR, "the close");
  for (const [authority, status] of [
    ["deny:1", 401],
    ["bad:1", 400],
    ["gone:1", 503],
  ] as const) {
    const refused = nodeConnect(session, authority);
    await loop.until(() => refused.seen.status === status && refused.seen.code >= 0, authority);
    assert.equal(refused.seen.error, "");
  }
  assert.equal(server.closed.length, 0);
  session.destroy();
});

test("Node's client: large payload both ways at once, over its small windows", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const session = nodeClient(server.port);
  const { stream, seen } = nodeConnect(session, "echo:80");
  await loop.until(() => seen.status === 200, "the answer");
  const far = server.streams[0] ?? assert.fail();
  far.keepsBytes = false;
  const size = 10_000_000;
  stream.end(Buffer.alloc(size));
  far.send(Buffer.alloc(size));
  far.end();
  await loop.until(() => far.received === size && seen.bytes === size, "all of it");
  await loop.until(() => far.ends === 1 && seen.isEnded, "the ends");
  assert.equal(server.tunnel.streams.size, 0);
  session.destroy();
});

test("Node's client: 150 streams at once, resets from both sides, PING and GOAWAY", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const session = nodeClient(server.port);
  const all = Array.from({ length: 150 }, () => nodeConnect(session, "echo:80"));
  await loop.until(() => all.every(({ seen }) => seen.status === 200), "the answers");
  all[0]?.stream.close(http2.constants.NGHTTP2_CANCEL);
  await loop.until(
    () => server.streams.some((s) => s.reset?.code === ERROR.CANCEL),
    "Node's reset",
  );
  const ours = server.streams.find((stream) => stream.tunnel !== null) ?? assert.fail();
  server.tunnel.resetStream(ours, ERROR.CANCEL);
  await loop.until(() => all.filter(({ seen }) => seen.code === ERROR.CANCEL).length === 2, "ours");
  let isAnswered = false;
  session.ping(Buffer.from("12345678"), (error) => {
    isAnswered = error === null;
  });
  await loop.until(() => isAnswered, "the PING's answer");
  let goAways = 0;
  session.on("goaway", () => goAways++);
  server.tunnel.drain();
  await loop.until(() => goAways >= 1, "GOAWAY");
  for (const { stream } of all) stream.close();
  await loop.until(() => server.closed.length === 1, "the end");
  assert.equal(server.closed[0]?.code, "CLOSING");
  session.destroy();
});

test("Node's server: CONNECT, payload both ways, refusals and resets", async () => {
  using loop = new Loopback();
  const authorities: (string | undefined)[] = [];
  using server = await nodeServer((stream, headers) => {
    authorities.push(headers[":authority"]);
    assert.equal(headers[":scheme"], undefined);
    assert.equal(headers[":path"], undefined);
    const authority = headers[":authority"];
    if (authority === "deny:1") return stream.respond({ ":status": 401 }, { endStream: true });
    stream.respond({ ":status": 200 });
    if (authority === "reset:1")
      setImmediate(() => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
    else stream.pipe(stream);
  });
  const client = loop.dial(server.port, mesh.clientContext);
  const stream = client.open("echo:80");
  stream.send("there and back");
  stream.end();
  await loop.until(() => stream.ends === 1, "the echo");
  assert.equal(stream.text, "there and back");
  const denied = client.open("deny:1");
  await loop.until(() => denied.status === 401, "the refusal");
  const reset = client.open("reset:1");
  await loop.until(() => reset.reset?.code === ERROR.INTERNAL_ERROR, "the reset");
  const big = client.open("echo:81");
  big.keepsBytes = false;
  big.send(Buffer.alloc(10_000_000));
  big.end();
  await loop.until(() => big.received === 10_000_000 && big.ends === 1, "a large echo");
  assert.deepEqual(authorities, ["echo:80", "deny:1", "reset:1", "echo:81"]);
  assert.equal(client.tunnel.state, "open");
});

test("Node's server: its stream limit, a graceful close, and a sudden one", async () => {
  using loop = new Loopback();
  using server = await nodeServer(
    (stream) => {
      stream.respond({ ":status": 200 });
      stream.resume();
    },
    { maxConcurrentStreams: 3 },
  );
  const client = loop.dial(server.port, mesh.clientContext);
  await loop.until(() => client.isOpen && client.tunnel.peerMaxStreams === 3, "the limit");
  const streams = [client.open(), client.open(), client.open()];
  assert.equal(client.tunnel.hasRoomForStream, false);
  await loop.until(() => streams.every((stream) => stream.status === 200), "the answers");
  server.sessions[0]?.close(); // GOAWAY, streams go on
  await loop.until(() => client.goAways === 1, "GOAWAY");
  assert.ok(streams.every((stream) => stream.tunnel !== null));
  server.sessions[0]?.destroy();
  await loop.until(() => client.closed !== null, "the loss");
  assert.ok(streams.every((stream) => stream.resets.length === 1));
});

test("openssl s_client: TLS 1.3 with our suites, ALPN h2, both groups of Istio's OpenSSL build", async () => {
  for (const [group, suite] of [
    ["P-256", "TLS_AES_128_GCM_SHA256"],
    ["P-384", "TLS_AES_256_GCM_SHA384"],
    ["X25519", "TLS_AES_256_GCM_SHA384"],
  ] as const) {
    using loop = new Loopback();
    const server = loop.listen(mesh.serverContext);
    const ran = await run(loop, "openssl", [
      ...["s_client", "-connect", `127.0.0.1:${server.port}`, "-alpn", "h2", "-groups", group],
      ...["-ciphersuites", suite, "-cert", files.cert, "-key", files.key, "-CAfile", files.root],
    ]);
    assert.match(ran.output, new RegExp(`New, TLSv1\\.3, Cipher is ${suite}`));
    assert.match(ran.output, /ALPN protocol: h2/);
    assert.match(ran.output, /Verify return code: 0 \(ok\)/);
    assert.match(ran.output, /Acceptable client certificate CA names\n/);
    assert.equal(server.opened, 1);
  }
});

test("openssl s_client: TLS 1.2, a foreign suite and a missing certificate are refused", async () => {
  for (const [args, alert] of [
    [["-tls1_2"], /alert protocol version/],
    [["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], /alert handshake failure/],
    [["-alpn", "http/1.1"], /alert no application protocol/],
  ] as const) {
    using loop = new Loopback();
    const server = loop.listen(mesh.serverContext);
    const ran = await run(loop, "openssl", [
      ...["s_client", "-connect", `127.0.0.1:${server.port}`, ...args],
      ...["-cert", files.cert, "-key", files.key, "-CAfile", files.root],
    ]);
    assert.match(ran.output, alert);
    assert.equal(server.opened, 0);
  }
});

test("openssl s_client: a KeyUpdate is answered, and the connection goes on", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  using child = started("openssl", [
    ...["s_client", "-connect", `127.0.0.1:${server.port}`, "-alpn", "h2"],
    ...["-cert", files.cert, "-key", files.key, "-CAfile", files.root],
  ]);
  await loop.until(
    () => server.opened === 1 && child.output.includes("Verify return code"),
    "the handshake",
  );
  child.stdin.write("K\n"); // asks us to update our keys, too
  await loop.until(() => child.output.includes("KEYUPDATE"), "the request");
  await loop.settle(20);
  assert.equal(server.closed.length, 0);
  child.stdin.write("no preface of HTTP/2, whatever the key is\n");
  await loop.until(() => server.closed.length === 1, "the refusal of what it says");
  assert.match(server.closed[0]?.message ?? "", /no HTTP\/2 preface/);
});

test("openssl s_server: our client's handshake asks for h2, offers no name, and shows its identity", async () => {
  using loop = new Loopback();
  const port = await freePort();
  using child = started("openssl", [
    ...["s_server", "-accept", `127.0.0.1:${port}`, "-alpn", "h2", "-Verify", "1"],
    ...["-cert", serverFile("cert.pem", mesh.server.certPem)],
    ...["-key", serverFile("key.pem", mesh.server.keyPem), "-CAfile", files.root, "-tls1_3"],
  ]);
  await loop.until(() => child.output.includes("ACCEPT"), "the server");
  const client = loop.dial(port, mesh.clientContext, (sans) =>
    sans.length === 1 ? null : "expected one identity",
  );
  await loop.until(() => client.isOpen && child.output.includes("CIPHER is"), "the handshake");
  assert.match(child.output, /ALPN protocols advertised by the client: h2\n/);
  assert.match(child.output, /ALPN protocols selected: h2/);
  assert.match(child.output, /CIPHER is TLS_AES_128_GCM_SHA256/);
  assert.doesNotMatch(child.output, /Hostname in TLS extension/);
});

test("h2load shows no certificate, and gets nowhere", async () => {
  using loop = new Loopback();
  const server = loop.listen(mesh.serverContext);
  const url = `https://127.0.0.1:${server.port}/`;
  const ran = await run(loop, "h2load", ["-n", "40", "-c", "4", "-m", "10", url]);
  assert.match(ran.output, /0 succeeded, 40 failed/);
  assert.equal(server.opened, 0);
  await loop.until(() => server.closed.length === server.tunnels.length, "the refusals");
  for (const error of server.closed) assert.match(error.message, /did not return a certificate/);
});

test("nghttp and curl: a GET is answered 400, and the tunnel goes on", async () => {
  const cases: [command: string, args: (port: number) => string[], want: RegExp][] = [
    [
      "nghttp",
      (port) => [
        ...["-v", "-n", "-m", "5", `--cert=${files.cert}`, `--key=${files.key}`],
        `https://127.0.0.1:${port}/`,
      ],
      /:status: 400/,
    ],
    [
      "curl",
      (port) => [
        ...["-sS", "-k", "--http2-prior-knowledge", "--cert", files.cert, "--key", files.key],
        ...["-o", "/dev/null", "-w", "%{http_code} %{http_version} "],
        ...[`https://127.0.0.1:${port}/a`, "-o", "/dev/null", `https://127.0.0.1:${port}/b`],
      ],
      /400 2 400 2/,
    ],
  ];
  for (const [command, args, want] of cases) {
    using loop = new Loopback();
    const server = loop.listen(mesh.serverContext);
    const ran = await run(loop, command, args(server.port));
    assert.match(ran.output, want);
    assert.equal(server.tunnels.length, 1);
    assert.ok(server.requests.length >= 2, `${server.requests.length} requests`);
    assert.ok(server.requests.every(({ method }) => method === "GET"));
    assert.notEqual(server.closed[0]?.code, "HTTP2", server.closed[0]?.message ?? "");
  }
});

test("nghttpd understands our preface, SETTINGS, CONNECT, RST_STREAM and GOAWAY", async () => {
  using loop = new Loopback();
  const port = await freePort();
  using child = started("nghttpd", [
    ...["-v", "-d", dir, "-a", "127.0.0.1", String(port)],
    serverFile("key.pem", mesh.server.keyPem),
    serverFile("cert.pem", mesh.server.certPem),
  ]);
  let client = loop.dial(port, mesh.clientContext);
  await loop.until(() => {
    if (client.closed !== null) client = loop.dial(port, mesh.clientContext); // not listening yet
    return client.isOpen;
  }, "the server");
  const stream = client.open("10.0.0.1:80", [["baggage", "k8s.namespace.name=shop"]]);
  await loop.until(() => child.output.includes("baggage: k8s.namespace.name=shop"), "the request");
  stream.tunnel?.resetStream(stream, ERROR.CANCEL); // nghttpd serves files, and leaves CONNECT unanswered
  client.tunnel.drain();
  await loop.until(() => client.closed !== null, "the end");
  await loop.until(() => child.output.includes("recv GOAWAY"), "GOAWAY");
  for (const line of [
    /SETTINGS_ENABLE_PUSH\(0x02\):0/,
    /SETTINGS_INITIAL_WINDOW_SIZE\(0x04\):262144/,
    /recv WINDOW_UPDATE frame .*\n.*window_size_increment=16711681/,
    /:method: CONNECT/,
    /:authority: 10\.0\.0\.1:80/,
    /recv RST_STREAM frame .*\n.*error_code=CANCEL/,
    /recv GOAWAY frame .*\n.*error_code=NO_ERROR/,
  ])
    assert.match(child.output, line);
});

function serverFile(name: string, content: string): string {
  const path = join(dir, `server-${name}`);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

async function freePort(): Promise<number> {
  const server = http2.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** A command that runs until the scope ends. */
function started(command: string, args: readonly string[]) {
  const child = spawn(command, [...args]);
  const running = {
    output: "",
    stdin: child.stdin,
    [Symbol.dispose]: (): void => void child.kill(),
  };
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      running.output += chunk.toString("latin1");
    });
  return running;
}

/** Runs a command to its end, its input closed, while our side turns. */
async function run(loop: Loopback, command: string, args: readonly string[]) {
  const done: { output: string | null } = { output: null };
  const child = execFile(command, args, { timeout: 10_000 }, (_error, stdout, stderr) => {
    done.output = `${stdout}\n${stderr}`;
  });
  child.stdin?.end();
  await loop.until(() => done.output !== null, command);
  return { output: done.output ?? "" };
}
