// Connects to an application of this host, as the pod itself and with a client's address, without a namespace.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";
import { test } from "node:test";
import { parseIp } from "#lib/net/ip.ts";
import { SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { localAddr, setTransparent, socketError, tcpSocket } from "#lib/sys/socket.ts";
import { connectToApp } from "./app-socket.ts";
import type { Pod } from "./pod.ts";

const HERE = parseIp("127.0.0.1");
const CLIENT = parseIp("127.0.0.9");
const ECONNREFUSED = 111;
const ENETUNREACH = 101;

const mayUseForeignAddresses = ((): boolean => {
  const fd = tcpSocket({ family: "ipv4" });
  const errno = setTransparent(fd, CLIENT);
  closeFd(fd);
  return errno === 0;
})();
const needsCapability = mayUseForeignAddresses ? {} : { skip: "needs CAP_NET_ADMIN" };

/** As far as this needs one. @param enter stands in for entering the namespace */
function podOf(enter: () => void = () => {}, random: () => number = Math.random): Pod {
  return { enter, context: { config: {}, random } } as unknown as Pod;
}

async function application(): Promise<{ server: Server; port: number; [Symbol.dispose](): void }> {
  const server = createServer((socket) => socket.on("error", () => {}));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { server, port, [Symbol.dispose]: () => void server.close() };
}

test("a connect inside the host is over at once", async () => {
  using app = await application();
  const got = connectToApp(podOf(), { ip: HERE, port: app.port }, null);
  assert.ok(got.kind === "connected");
  assert.equal(socketError(got.fd), 0);
  closeFd(got.fd);
});

test("a port nobody listens on is an errno, and leaves no descriptor", async () => {
  const app = await application();
  app[Symbol.dispose]();
  const next = tcpSocket({ family: "ipv4" });
  closeFd(next);
  for (const client of [null, ...(mayUseForeignAddresses ? [CLIENT] : [])])
    assert.deepEqual(connectToApp(podOf(), { ip: HERE, port: app.port }, client), {
      kind: "failed",
      errno: ECONNREFUSED,
    });
  const after = tcpSocket({ family: "ipv4" });
  closeFd(after);
  assert.equal(after, next, "the lowest free number is the same");
});

test("a pod whose namespace is gone is an errno", () => {
  const pod = podOf(() => {
    throw new SysError("setns", ENETUNREACH);
  });
  const got = connectToApp(pod, { ip: HERE, port: 1 }, null);
  assert.deepEqual(got, { kind: "failed", errno: ENETUNREACH });
});

test("the client's address becomes the source, with ports in turn", needsCapability, async () => {
  using app = await application();
  const fds = Array.from({ length: 5 }, () => {
    const got = connectToApp(podOf(), { ip: HERE, port: app.port }, CLIENT);
    assert.ok(got.kind === "connected");
    return got.fd;
  });
  const sources = fds.map(localAddr);
  assert.deepEqual(new Set(sources.map(({ ip }) => ip)), new Set([CLIENT]));
  const [first = 0, ...others] = sources.map(({ port }) => port);
  assert.deepEqual(others, [first + 1, first + 2, first + 3, first + 4]);
  for (const fd of fds) closeFd(fd);
});

test(
  "a source port in use towards the same application is passed over",
  needsCapability,
  async () => {
    using app = await application();
    const target = { ip: HERE, port: app.port };
    const first = connectToApp(podOf(), target, CLIENT);
    assert.ok(first.kind === "connected");
    const used = localAddr(first.fd).port;
    // the next in turn is taken by somebody who listens there
    const taken = createServer().listen(used + 1, CLIENT);
    await once(taken, "listening");
    const other = connectToApp(
      podOf(
        () => {},
        () => 0.5,
      ),
      target,
      CLIENT,
    );
    assert.ok(other.kind === "connected");
    assert.notEqual(localAddr(other.fd).port, used + 1);
    taken.close();
    for (const { fd } of [first, other]) closeFd(fd);
  },
);

test("the pod calling itself, or another family, is no foreign client", async () => {
  using app = await application();
  for (const client of [HERE, parseIp("fd00::9")]) {
    const got = connectToApp(podOf(), { ip: HERE, port: app.port }, client);
    assert.ok(got.kind === "connected");
    assert.equal(localAddr(got.fd).ip, HERE);
    closeFd(got.fd);
  }
});
