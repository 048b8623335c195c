// Two sockets joined: bytes both ways, half-closes, and who reset what.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { test } from "node:test";
import { closeFd } from "#lib/sys/netns.ts";
import { accept, connectFd, listenTcp, localAddr, tcpSocket } from "#lib/sys/socket.ts";
import { Loopback, LOOPBACK } from "../../test/harness/loopback.ts";
import { TcpSplice } from "./tcp-splice.ts";

async function joined(loop: Loopback) {
  const backend = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await loop.turning(once(backend, "listening"));
  const served = once(backend, "connection") as Promise<[Socket]>;
  const listener = listenTcp({ ip: LOOPBACK, port: 0 });
  const client = connect({
    port: localAddr(listener).port,
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  client.on("error", () => {});
  await loop.turning(once(client, "connect"));
  const near = accept(listener)?.fd ?? assert.fail();
  closeFd(listener);
  const far = tcpSocket({ family: "ipv4" });
  connectFd(far, { ip: LOOPBACK, port: (backend.address() as AddressInfo).port });
  const over: number[] = [];
  const splice = new TcpSplice(loop.reactor, near, far, true, {
    onConnected: () => {},
    onOver: (errno) => over.push(errno),
  });
  const [server] = await loop.turning(served);
  server.on("error", () => {});
  backend.close();
  const text = { client: "", server: "" };
  client.on("data", (chunk) => (text.client += chunk));
  server.on("data", (chunk) => (text.server += chunk));
  return { client, server, splice, over, text };
}

test("bytes pass both ways, each side's end by itself, and both are counted", async () => {
  using loop = new Loopback();
  const { client, server, splice, over, text } = await joined(loop);
  client.end("question");
  await loop.until(() => text.server === "question", "the question");
  server.end("answer");
  await loop.until(() => text.client === "answer" && over.length === 1, "the answer");
  assert.deepEqual(over, [0]);
  assert.deepEqual([splice.bytesSent, splice.bytesReceived], [8, 6]);
  assert.equal(splice.isClientReset, false);
});

for (const [who, want] of [
  ["client", true],
  ["server", false],
] as const)
  test(`a reset by the ${who} ends it, and only the client's is the client's`, async () => {
    using loop = new Loopback();
    const both = await joined(loop);
    both.client.write("x");
    await loop.until(() => both.text.server === "x", "a byte");
    const [one, other] = who === "client" ? [both.client, both.server] : [both.server, both.client];
    const ended = once(other, "end");
    one.resetAndDestroy();
    await loop.turning(ended); // orderly: the reset is not passed on
    other.end();
    await loop.until(() => both.over.length === 1, "the end");
    assert.deepEqual(both.over, [0]);
    assert.equal(both.splice.isClientReset, want);
  });
