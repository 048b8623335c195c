// Streams through the API server: its WebSocket as a kubelet speaks it, and as a broken one does.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { test } from "node:test";
import { podLogs } from "./pod-logs.ts";
import { portForward } from "./port-forward.ts";
import { json, status, TestServer } from "./test-server.ts";

const TARGET = { namespace: "shop", pod: "web", port: 8080 };

/** An unmasked frame, as a server sends it. */
function frame(opcode: number, payload: Buffer, isLast = true): Buffer {
  const first = (isLast ? 0x80 : 0) | opcode;
  if (payload.length < 126) return Buffer.concat([Buffer.from([first, payload.length]), payload]);
  const header = Buffer.from([first, 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([header, payload]);
}

const message = (channel: number, text: string): Buffer =>
  frame(2, Buffer.concat([Buffer.from([channel]), Buffer.from(text)]));

/** A server that upgrades and then does what the test says. `onMessage` sees unmasked payloads. */
async function upgrading(
  begin: (socket: Duplex) => void,
  onMessage: (payload: Buffer, socket: Duplex, opcode: number) => void = () => {},
): Promise<TestServer> {
  const server = await TestServer.start((_, response) =>
    json(response, status(404, "NotFound", 'pods "web" not found'), 404),
  );
  server.server.on("upgrade", (request, socket: Duplex) => {
    if (request.headers.accept !== "*/*") {
      socket.end("HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n"); // as a kubelet does
      return;
    }
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash("sha1").update(key).digest("base64");
    const protocol = String(request.headers["sec-websocket-protocol"]).split(",")[0];
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
    );
    socket.on("error", () => {});
    let buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      buffer = Buffer.concat([buffer, chunk]);
      for (;;) {
        const short = (buffer[1] ?? 0) & 0x7f;
        const size = short === 126 ? buffer.readUInt16BE(2) : short;
        const at = short === 126 ? 4 : 2;
        if (buffer.length < at + 4 + size || buffer.length < 2) return;
        const mask = buffer.subarray(at, at + 4);
        const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + size));
        for (let i = 0; i < size; i++) payload[i] = (payload[i] ?? 0) ^ (mask[i & 3] ?? 0);
        const opcode = (buffer[0] ?? 0) & 0x0f;
        buffer = buffer.subarray(at + 4 + size);
        onMessage(payload, socket, opcode);
      }
    });
    begin(socket);
  });
  return server;
}

function closing(stream: Duplex): Disposable {
  stream.on("error", () => {}); // after a test has seen enough
  return { [Symbol.dispose]: () => void stream.destroy() };
}

const ports = (socket: Duplex): void => {
  socket.write(message(0, "\x90\x1f").subarray(0)); // the port, on either channel
  socket.write(message(1, "\x90\x1f"));
};

test("bytes go to the pod and come back", { timeout: 5_000 }, async () => {
  await using server = await upgrading(ports, (payload, socket, opcode) => {
    if (opcode !== 2) return;
    assert.equal(payload[0], 0);
    socket.write(frame(9, Buffer.from("ping")));
    // in two fragments
    socket.write(frame(2, Buffer.concat([Buffer.from([0]), Buffer.from("echo ")]), false));
    socket.write(frame(0, payload.subarray(1)));
  });
  const stream = await portForward(server.api, TARGET);
  using _stream = closing(stream);
  stream.write("x".repeat(300));
  let got = "";
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    got += chunk.toString();
    if (got.length >= 305) break;
  }
  assert.equal(got, `echo ${"x".repeat(300)}`);
  const [request] = server.requests;
  assert.equal(request, undefined, "an upgrade is no plain request");
});

test("when the pod closes the stream ends", { timeout: 5_000 }, async () => {
  await using server = await upgrading((socket) => {
    ports(socket);
    socket.write(message(0, "bye"));
    socket.write(frame(8, Buffer.from([3, 232])));
  });
  const stream = await portForward(server.api, TARGET);
  using _stream = closing(stream);
  assert.equal(Buffer.concat(await stream.toArray()).toString(), "bye");
});

test("nobody listening on the port, a broken connection and a missing pod are errors", {
  timeout: 5_000,
}, async () => {
  await using refusing = await upgrading((socket) => {
    ports(socket);
    socket.write(message(1, "connection refused"));
  });
  const refused = await portForward(refusing.api, TARGET);
  using _refused = closing(refused);
  await assert.rejects(
    refused.toArray(),
    /Cannot reach port 8080 of Pod shop\/web: connection refused/,
  );
  await using breaking = await upgrading((socket) => {
    ports(socket);
    socket.end();
  });
  const broken = await portForward(breaking.api, TARGET);
  using _broken = closing(broken);
  await assert.rejects(broken.toArray(), /ended without a close frame/);
  await using masking = await upgrading(
    (socket) => void socket.write(Buffer.from([0x82, 0x81, 0])),
  );
  const masked = await portForward(masking.api, TARGET);
  using _masked = closing(masked);
  await assert.rejects(masked.toArray(), /masked frame/);
  await using missing = await TestServer.start((_, response) =>
    json(response, status(404, "NotFound", 'pods "web" not found'), 404),
  );
  await assert.rejects(
    portForward(missing.api, TARGET),
    /port-forward to Pod shop\/web: pods "web" not found/,
  );
});

test("a slow reader stops the sender", { timeout: 5_000 }, async () => {
  let isDrained = true;
  const piece = message(0, "y".repeat(60_000));
  await using server = await upgrading((socket) => {
    ports(socket);
    const fill = (): void => {
      while ((isDrained = socket.write(piece)));
      socket.once("drain", fill);
    };
    fill();
  });
  const stream = await portForward(server.api, TARGET);
  using _stream = closing(stream);
  await once(stream, "readable");
  while (isDrained) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(stream.readableLength < 1_000_000, String(stream.readableLength));
});

test("logs come line by line", { timeout: 5_000 }, async () => {
  await using server = await TestServer.start((_, response) => {
    response.write("one\ntw");
    setTimeout(() => response.end("o\nthree"), 20);
  });
  const lines: string[] = [];
  for await (const line of podLogs(server.api, { ...TARGET, container: "app", tailLines: 3 }))
    lines.push(line);
  assert.deepEqual(lines, ["one", "two", "three"]);
  assert.equal(server.requests[0]?.url.search, "?container=app&tailLines=3");
});
