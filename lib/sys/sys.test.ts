// Each wrapper over the real kernel, and each with a case the kernel refuses.
import assert from "node:assert/strict";
import { mkdtempDisposableSync, openSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseIp } from "../net/ip.ts";
import { createEventFd, drainEventFd, signalEventFd } from "./eventfd.ts";
import { SysError } from "./errors.ts";
import { asNetnsFd, closeFd, homeNetns, inNetns, netnsId, openNetns } from "./netns.ts";
import { raiseOpenFiles } from "./rlimit.ts";
import { connectSeqpacket, listenSeqpacket, MAX_DATAGRAM } from "./seqpacket.ts";
import {
  accept,
  bindUdp,
  connectFd,
  listenTcp,
  localAddr,
  originalDst,
  tcpSocket,
} from "./socket.ts";

const LOOPBACK = parseIp("127.0.0.1");

test("a listening socket accepts and tells its peer", async () => {
  const fd = listenTcp({ ip: LOOPBACK, port: 0 });
  const { port } = localAddr(fd);
  const client = net.connect({ host: "127.0.0.1", port });
  await new Promise((resolve) => client.once("connect", resolve));
  const got = accept(fd);
  assert.ok(got);
  assert.equal(got.peer.ip, "127.0.0.1");
  assert.equal(got.peer.port, client.localPort);
  assert.deepEqual(originalDst(got.fd), { ip: "127.0.0.1", port });
  assert.equal(accept(fd), null);
  client.destroy();
  closeFd(got.fd);
  closeFd(fd);
});

test("a dual-stack listener tells IPv4 peers as IPv4", async () => {
  const fd = listenTcp({ ip: parseIp("::"), port: 0 });
  const client = net.connect({ host: "127.0.0.1", port: localAddr(fd).port });
  await new Promise((resolve) => client.once("connect", resolve));
  const got = accept(fd);
  assert.equal(got?.peer.ip, "127.0.0.1");
  client.destroy();
  closeFd(got?.fd ?? -1);
  closeFd(fd);
});

test("binding twice fails with the address in the message", () => {
  const fd = listenTcp({ ip: LOOPBACK, port: 0 });
  const { port } = localAddr(fd);
  assert.throws(
    () => listenTcp({ ip: LOOPBACK, port }),
    (error) =>
      error instanceof SysError &&
      error.code === "EADDRINUSE" &&
      error.message.includes(String(port)),
  );
  closeFd(fd);
});

test("a UDP socket binds, a refused connect tells its errno", () => {
  const udp = bindUdp({ ip: LOOPBACK, port: 0 });
  assert.notEqual(localAddr(udp).port, 0);
  closeFd(udp);
  const fd = tcpSocket({ family: "ipv4" });
  assert.equal(connectFd(fd, { ip: parseIp("255.255.255.255"), port: 1 }) !== 0, true);
  closeFd(fd);
});

test("namespaces are told apart by device and inode, and a file that is none is refused", () => {
  const ns = openNetns("/proc/self/ns/net");
  assert.equal(netnsId(ns), netnsId(homeNetns()));
  closeFd(ns);
  const file = asNetnsFd(openSync("/proc/self/status", "r"));
  assert.throws(
    () => inNetns(file, () => 1),
    (error) => error instanceof SysError && error.call === "setns",
  );
  closeFd(file);
  assert.throws(() => openNetns("/proc/self/ns/none"), /ENOENT/);
});

test("seqpacket keeps datagrams apart and passes descriptors", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "ambit-sys-"));
  const path = join(dir.path, "zds.sock");
  using listener = listenSeqpacket(path);
  using client = await connectSeqpacket(path);
  using server = (await listener.accept()) ?? assert.fail();
  await client.send(Buffer.from("one"));
  await client.send(Buffer.from("two"), homeNetns());
  assert.equal(Buffer.from((await server.receive())?.bytes ?? []).toString(), "one");
  const second = await server.receive();
  assert.equal(second?.fds.length, 1);
  const fd = asNetnsFd(second?.fds[0] ?? -1);
  assert.equal(netnsId(fd), netnsId(homeNetns()));
  closeFd(fd);
  const pending = client.receive();
  await server.send(Buffer.alloc(MAX_DATAGRAM, 7));
  assert.equal((await pending)?.bytes.length, MAX_DATAGRAM);
  await assert.rejects(server.send(Buffer.alloc(MAX_DATAGRAM + 1)), /EMSGSIZE/);
  server.close();
  assert.equal(await client.receive(), null);
  await assert.rejects(client.send(Buffer.from("x")), /EPIPE/);
});

test("connecting to no socket is refused by name", async () => {
  await assert.rejects(connectSeqpacket("/nowhere/zds.sock"), /ENOENT/);
});

test("an eventfd signals and drains; the open-file limit rises", () => {
  const fd = createEventFd();
  signalEventFd(fd);
  drainEventFd(fd);
  closeFd(fd);
  const limit = raiseOpenFiles();
  assert.ok(limit.new >= limit.old);
});
