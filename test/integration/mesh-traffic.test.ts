// Real traffic through the mesh: every way to name a destination, both address families, and TCP's
// corners (half-close, reset, server speaks first, bulk, many at once). Watched on the link.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import type { Socket } from "node:net";
import { describe, test } from "node:test";
import { RESOURCES } from "#lib/kube/objects.ts";
import { parseIp } from "#lib/net/ip.ts";
import { PORT } from "#lib/net/ports.ts";
import { bindUdp } from "#lib/sys/socket.ts";
import type { Lab } from "../../lab/lab.ts";
import type { Flow } from "../../lab/pcap.ts";
import type { LabPod } from "../../lab/pod.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  AMBIENT,
  configDump,
  dial,
  echoLines,
  known,
  knownService,
  listen,
  logLine,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  tunnels,
  within,
  type Peer,
  type Service,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
const DNS_V4 = "10.96.0.10";

describe("traffic", suite(needsLab), () => {
  let client: LabPod;
  let server: LabPod;
  let near: LabPod;
  let stranger: LabPod;
  const mesh = sharedMesh({ families: "dual" }, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, server, near, stranger] = await Promise.all([
      pod(lab, "a", "client"),
      pod(lab, "b", "server"),
      pod(lab, "a", "near"),
      pod(lab, "b", "stranger", { namespace: "street" }),
    ]);
    await lab.service({
      name: "server",
      namespace: "shop",
      selector: { app: "server" },
      ports: [
        { name: "numeric", port: 80, targetPort: 8080 },
        { name: "named", port: 81, targetPort: "tcp" },
      ],
    });
    await lab.service({
      name: "heads",
      namespace: "shop",
      selector: { app: "server" },
      headless: true,
      ports: [{ name: "tcp", port: 8080 }],
    });
    await known(lab, client, server, near);
    await knownService(lab, "server", 1);
    await knownService(lab, "heads", 1);
  });

  test("a pod's address: tunnelled, both identities known, source address kept (v4, v6)", async () => {
    await using _ = await echoLines(server);
    for (const [to, from] of [
      [server.ipv4(), client.ipv4()],
      [server.ipv6(), client.ipv6()],
    ] as const) {
      await using capture = await mesh().link.capture();
      using peer = await dial(client, to, 8080);
      assert.equal(await peer.ask("SECRET"), `server ${from} SECRET`);
      await tunnelled(mesh(), "a", "outbound");
      await tunnelled(mesh(), "b", "inbound");
      assert.ok(!(await capture.contains("SECRET")));
      await onlyHbone(capture, client, server);
    }
  });

  test("a service's address: numeric and named target port, v4 and v6", async () => {
    await using _ = await echoLines(server);
    for (const ip of await vips(mesh(), "server"))
      for (const port of [80, 81]) {
        using peer = await dial(client, ip, port);
        assert.match(await peer.ask(`to ${port}`), new RegExp(`^server .* to ${port}$`));
        const view = await tunnelled(mesh(), "a", "outbound");
        assert.equal(view.destination.service, "server.shop.svc.cluster.local");
        assert.match(view.destination.address, /:8080$/);
        // a v6 service address is served by the pod's v6 address
        assert.equal(view.destination.address.startsWith("["), ip.includes(":"));
      }
  });

  test("a port the service does not have fails, and says so", async () => {
    await using _ = await echoLines(server);
    const [v4 = ""] = await vips(mesh(), "server");
    assert.equal(await tryAsk(client, v4, 8080), null);
    await logLine(
      mesh(),
      "ztunnel",
      "a",
      /\terror\taccess\tconnection complete.*dst\.service="server\.shop.*reason="no_healthy_upstream"/,
    );
  });

  test("two pods of one node are tunnelled like any others", async () => {
    await using _ = await echoLines(near);
    using peer = await dial(client, near.ip, 8080);
    assert.equal(await peer.ask("next door"), `near ${client.ip} next door`);
    const out = await tunnelled(mesh(), "a", "outbound");
    const into = await tunnelled(mesh(), "a", "inbound");
    assert.equal(out.destination.identity, into.destination.identity);
    assert.notEqual(out.tunnel, null);
  });

  test("a pod calls itself, by its own address and through its service", async () => {
    await using _ = await echoLines(server);
    assert.equal(await tryAsk(server, server.ip, 8080), `server ${server.ip} hello`);
    const [v4 = ""] = await vips(mesh(), "server");
    assert.equal(await tryAsk(server, v4, 80), `server ${server.ip} hello`);
    assert.match((await tryAsk(server, "127.0.0.1", 8080)) ?? "", /^server 127\.0\.0\.1 hello$/);
  });

  test("an address the mesh does not know is reached in plaintext, with the pod's address", async () => {
    await using _ = await echoLines(stranger);
    await using capture = await mesh().link.capture();
    using peer = await dial(client, stranger.ip, 8080);
    assert.equal(await peer.ask("IN-CLEAR"), `stranger ${client.ip} IN-CLEAR`);
    assert.ok(await capture.contains("IN-CLEAR"));
    const view = (await tunnels(mesh(), "a")).find((t) => t.destination.pod === "stranger");
    assert.equal(view?.security, "plaintext");
  });

  test("plaintext from outside reaches the pod, with the stranger's address", async () => {
    await using _ = await echoLines(server);
    assert.equal(await tryAsk(stranger, server.ipv4()), `server ${stranger.ipv4()} hello`);
    assert.equal(await tryAsk(stranger, server.ipv6()), `server ${stranger.ipv6()} hello`);
  });

  test("the node's own probes are answered by the application itself", async () => {
    await using service = await echoLines(server);
    const node = mesh().node("b");
    assert.match((await tryAsk(node, server.ipv4())) ?? "", /^server 169\.254\.7\.127 hello$/);
    assert.match(
      (await tryAsk(node, server.ipv6())) ?? "",
      /^server fd16:9254:7127:1337:ffff:ffff:ffff:ffff hello$/,
    );
    assert.equal(service.peers.length, 2);
  });

  test("a server that speaks first is heard before the client says anything", async () => {
    await using _ = await listen(server, 8080, (peer) => peer.socket.write("220 ready\r\n"));
    using peer = await dial(client, server.ip, 8080);
    await within("the greeting", () => peer.received === "220 ready\r\n");
    assert.equal(peer.hasEnded, false);
  });

  test("half-close travels each way, and the other direction stays open", async () => {
    await using service = await listen(server, 8080);
    using peer = await dial(client, server.ip, 8080);
    const far = await arrival(service);
    peer.socket.end("question");
    await within("the client's FIN", () => far.hasEnded);
    assert.equal(far.received, "question");
    for (let n = 0; n < 5; n++) far.socket.write(`late ${n};`);
    await within("answers after the FIN", () => peer.received.endsWith("late 4;"));
    assert.equal(peer.hasEnded, false);
    far.socket.end();
    await within("both sides closed", () => peer.isClosed && far.isClosed);
    assert.equal(peer.error ?? far.error, null);

    using second = await dial(client, server.ip, 8080);
    const server2 = await arrival(service, 2);
    server2.socket.end("bye");
    await within("the server's FIN", () => second.hasEnded);
    second.socket.write("still here");
    await within("bytes after the server's FIN", () => server2.received === "still here");
    second.socket.end();
    await within("both sides closed", () => second.isClosed && server2.isClosed);
  });

  test("a reset on either side ends the other side as well", async () => {
    await using service = await listen(server, 8080, (peer) => peer.socket.write("up"));
    using peer = await dial(client, server.ip, 8080);
    const far = await arrival(service);
    await within("it is up", () => peer.received === "up");
    peer.socket.resetAndDestroy();
    await far.closed();
    await within("the server is told", () => !far.socket.write("more") || far.isClosed);

    using second = await dial(client, server.ip, 8080);
    const server2 = await arrival(service, 2);
    await within("it is up", () => second.received === "up");
    server2.socket.resetAndDestroy();
    await second.closed();
    // as between two plain hosts, the client learns that nobody reads when it writes again
    await within("the client is told", () => !second.socket.write("more") || second.isClosed);
    await within("no connection is left", async () => (await tunnels(mesh(), "a")).length === 0);
  });

  test("50 MB each way at once arrive whole", { timeout: 60_000 }, async () => {
    const block = randomBytes(1 << 20);
    const blocks = 50;
    const expected = createHash("sha256");
    for (let n = 0; n < blocks; n++) expected.update(block);
    const want = expected.digest("hex");
    const hashes: Promise<string>[] = [];
    const pump = async (peer: { readonly socket: Socket }): Promise<void> => {
      for (let n = 0; n < blocks; n++)
        if (!peer.socket.write(block))
          await new Promise((resolve) => peer.socket.once("drain", resolve));
      peer.socket.end();
    };
    const hashOf = (peer: Peer): Promise<string> =>
      new Promise((resolve) => {
        const hash = createHash("sha256");
        peer.socket.on("data", (chunk: Buffer) => {
          hash.update(chunk);
          peer.forget();
        });
        peer.socket.on("end", () => resolve(hash.digest("hex")));
      });
    await using _ = await listen(server, 8080, (peer) => {
      hashes.push(hashOf(peer));
      void pump(peer);
    });
    using peer = await dial(client, server.ip, 8080);
    const back = hashOf(peer);
    await pump(peer);
    assert.equal(await back, want);
    assert.deepEqual(await Promise.all(hashes), [want]);
  });

  test("150 connections at once share two tunnels or more, none with over 100 streams", async () => {
    await using service = await echoLines(server);
    const peers = await Promise.all(
      Array.from({ length: 150 }, () => dial(client, server.ip, 8080)),
    );
    try {
      const answers = await Promise.all(peers.map((p, n) => p.ask(`n${n}`, 10_000)));
      assert.deepEqual(
        answers,
        peers.map((_, n) => `server ${client.ip} n${n}`),
      );
      const views = (await tunnels(mesh(), "a")).filter((t) => t.direction === "outbound");
      assert.equal(views.length, 150);
      const ids = new Set(views.map((t) => t.tunnel));
      assert.ok(ids.size >= 2, `${ids.size} tunnels`);
      assert.ok(views.every((t) => t.streams <= 100));
    } finally {
      for (const peer of peers) peer.socket.destroy();
    }
    await within("all are gone", async () => (await tunnels(mesh(), "b")).length === 0);
    assert.equal(service.peers.length, 150);
  });

  test("DNS: names of services, search domains and headless ones are answered by the proxy", async () => {
    const lookup = (name: string, family: 0 | 4 | 6 = 0): Promise<string[]> =>
      resolve(client, name, family);
    const service = (await vips(mesh(), "server")).toSorted();
    for (const name of [
      "server",
      "server.shop",
      "server.shop.svc",
      "server.shop.svc.cluster.local",
    ])
      assert.deepEqual((await lookup(name)).toSorted(), service, name);
    assert.deepEqual((await lookup("heads")).toSorted(), [...server.ips].toSorted());
    assert.deepEqual(await lookup("heads", 4), [server.ipv4()]);
    await using _ = await echoLines(server);
    const { stdout } = await client.exec([
      process.execPath,
      "-e",
      'require("net").connect(8080,"heads").on("data",d=>{console.log(String(d));process.exit()}).write("by name\\n")',
    ]);
    assert.match(stdout, /^server .* by name/);
  });

  test("DNS: what is no service goes to the real server, and its NXDOMAIN comes back", async () => {
    const answer = await query(client, "nowhere.example", 1);
    assert.equal(answer.readUInt16BE(2) & 15, 3);
    assert.equal(answer.readUInt16BE(2) & 0x8000, 0x8000);
    await assert.rejects(resolve(client, "nowhere.example", 0), /ENOTFOUND/);
    // a name the proxy owns is authoritative
    const own = await query(client, "server.shop.svc.cluster.local", 1);
    assert.equal(own.readUInt16BE(2) & 0x040f, 0x0400);
    assert.equal(own.readUInt16BE(6), 1);
  });

  test("DNS over TCP is captured too", async () => {
    using peer = await dial(client, DNS_V4, 53);
    const message = dnsQuery("server.shop.svc.cluster.local", 28);
    peer.socket.write(Buffer.concat([Buffer.from([0, message.length]), message]));
    const answer = await within("the answer", () => {
      const got = Buffer.from(peer.received, "latin1");
      return got.length > 2 && got.length >= 2 + got.readUInt16BE(0) ? got.subarray(2) : null;
    });
    assert.equal(answer.readUInt16BE(2) & 15, 0);
    assert.equal(answer.readUInt16BE(6), 1);
    assert.deepEqual([...answer.subarray(-16, -12)], [0xfd, 0, 0, 0x96]);
  });

  test("the metrics and the dump tell what happened", async () => {
    const dump = await configDump(mesh(), "a");
    assert.ok(Object.values(dump.workloadState).every((w) => w.state === "Up"));
    const id = dump.certificates.find((c) => c.identity.endsWith("/sa/client"));
    assert.equal(id?.state, "Available");
  });
});

async function vips(lab: Lab, name: string): Promise<readonly string[]> {
  const service = await lab.cluster.get(RESOURCES.services, "shop", name);
  return service?.spec?.clusterIPs ?? [];
}

/** The one live connection of a direction on a node, which must be a tunnelled one. */
async function tunnelled(lab: Lab, node: string, direction: "inbound" | "outbound") {
  const views = await within(`one ${direction} connection on ${node}`, async () => {
    const list = (await tunnels(lab, node)).filter((t) => t.direction === direction);
    return list.length === 1 ? list : null;
  });
  const [view] = views;
  assert.ok(view !== undefined);
  assert.equal(view.security, "mutual_tls");
  assert.equal(view.source.identity, "spiffe://cluster.local/ns/shop/sa/client");
  assert.match(
    view.destination.identity ?? "",
    /^spiffe:\/\/cluster\.local\/ns\/shop\/sa\/(server|near)$/,
  );
  return view;
}

async function onlyHbone(
  capture: { flows(): Promise<readonly Flow[]> },
  a: LabPod,
  b: LabPod,
): Promise<void> {
  const ips = new Set([...a.ips, ...b.ips]);
  const flows = (await capture.flows()).filter(
    (f) => f.protocol === "tcp" && ips.has(f.src) && ips.has(f.dst),
  );
  assert.ok(flows.length > 0, "nothing was captured");
  for (const f of flows)
    assert.ok(f.srcPort === PORT.hbone || f.dstPort === PORT.hbone, `${f.srcPort} → ${f.dstPort}`);
}

function arrival(service: Service, count = 1) {
  return within("the connection's arrival", () => service.peers[count - 1] ?? null);
}

/** As a program in the pod resolves names: libc, with the pod's resolv.conf. */
async function resolve(from: LabPod, name: string, family: 0 | 4 | 6): Promise<string[]> {
  const program = `require("dns").lookup(${JSON.stringify(name)},{all:true,family:${family}},(e,a)=>{if(e){console.error(e.code);process.exit(1)}console.log(a.map(x=>x.address).join())})`;
  const { stdout } = await from.exec([process.execPath, "-e", program]);
  return stdout.trim().split(",");
}

function dnsQuery(name: string, type: number): Buffer {
  const labels = name.split(".").map((l) => Buffer.from(`${String.fromCharCode(l.length)}${l}`));
  const head = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, type, 0, 1])]);
}

/** One UDP query to the cluster's DNS address; the whole reply. */
async function query(from: LabPod, name: string, type: number): Promise<Buffer> {
  const socket = createSocket("udp4");
  await new Promise<void>((done) =>
    socket.bind({ fd: bindUdp({ ip: parseIp("0.0.0.0"), port: 0, netns: from.netns.fd }) }, done),
  );
  try {
    return await new Promise<Buffer>((done, fail) => {
      setTimeout(() => fail(new Error("no answer")), 3_000).unref();
      socket.once("message", done);
      socket.send(dnsQuery(name, type), 53, DNS_V4);
    });
  } finally {
    socket.close();
  }
}
