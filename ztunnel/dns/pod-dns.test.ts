// The DNS server of a pod over real sockets, with a name server of our own behind it.
import assert from "node:assert/strict";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { test } from "node:test";
import { createLogger } from "#lib/obs/log.ts";
import { mesh, service, vips, workload } from "#lib/model/test-mesh.ts";
import type { Workload } from "#lib/model/workload.ts";
import { parseIp, type SocketAddr } from "#lib/net/ip.ts";
import { DnsTcpReader, frameTcpMessage } from "#lib/wire/dns-tcp.ts";
import { parseQuery } from "#lib/wire/dns.ts";
import { encodeResponse } from "#lib/wire/dns-response.ts";
import { DnsCounters, type DnsSeries } from "./dns-counters.ts";
import { Forwarder } from "./forwarder.ts";
import { DnsHandler } from "./handler.ts";
import { SysError } from "#lib/sys/errors.ts";
import { PodDns } from "./pod-dns.ts";

const LOCAL = parseIp("127.0.0.1");
const log = createLogger({ scope: "test", level: "silent", format: "json" });
const TABLES = mesh({
  services: [service("cart", { namespace: "shop", vips: vips("10.96.0.5") })],
});
const CLIENT = workload("curl", { namespace: "shop", canonicalName: "curl-app" });

/** A name server that answers every query with what `answer` makes of its bytes. */
class Upstream implements AsyncDisposable {
  readonly queries: Buffer[] = [];
  readonly #udp = createSocket("udp4");
  readonly #tcp = createServer();
  addr: SocketAddr = { ip: LOCAL, port: 0 };

  static async start(
    answer: (query: Buffer, overTcp: boolean) => Uint8Array | null,
  ): Promise<Upstream> {
    const up = new Upstream();
    up.#udp.on("message", (query, peer) => {
      up.queries.push(query);
      const bytes = answer(query, false);
      if (bytes !== null) up.#udp.send(bytes, peer.port, peer.address);
    });
    up.#tcp.on("connection", (socket) => {
      const reader = new DnsTcpReader();
      socket.on("data", (chunk) => {
        for (const message of reader.push(chunk as Buffer)) {
          up.queries.push(Buffer.from(message));
          const bytes = answer(Buffer.from(message), true);
          if (bytes !== null) socket.write(frameTcpMessage(bytes));
        }
      });
    });
    up.#tcp.listen(0, "127.0.0.1");
    await once(up.#tcp, "listening");
    const { port } = up.#tcp.address() as AddressInfo;
    up.#udp.bind(port, "127.0.0.1");
    await once(up.#udp, "listening");
    up.addr = { ip: LOCAL, port };
    return up;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#udp.close();
    this.#tcp.close();
    await Promise.resolve();
  }
}

interface Setup {
  readonly servers?: readonly SocketAddr[];
  readonly client?: Workload | null;
  readonly timeoutMs?: number;
}

function podDns(
  setup: Setup,
  port?: number,
): { readonly dns: PodDns; readonly counters: DnsCounters } {
  const counters = new DnsCounters();
  const { servers = [], timeoutMs = 300 } = setup;
  const handler = new DnsHandler({
    tables: TABLES,
    settings: { clusterDomain: "cluster.local", preferredNamespace: null, ipv6Enabled: true },
    client: async () => (setup.client === undefined ? CLIENT : setup.client),
    forwarder: new Forwarder({ resolvConf: () => ({ servers, timeoutMs, attempts: 1 }) }),
    counters,
    log,
    random: Math.random,
    elapsed: () => performance.now(),
  });
  const dns =
    port === undefined
      ? listenSomewhere(handler)
      : PodDns.listen({ handler, reusePort: true, ipv6Enabled: true, port });
  return { dns, counters };
}

/** A port free for UDP may be taken for TCP, or in the other family: then another one. */
function listenSomewhere(handler: DnsHandler): PodDns {
  for (let attempt = 1; ; attempt++)
    try {
      return PodDns.listen({ handler, reusePort: true, ipv6Enabled: true, port: 0 });
    } catch (error) {
      const isTaken = error instanceof SysError && error.code === "EADDRINUSE";
      if (!isTaken || attempt === 20) throw error;
    }
}

function resolver(dns: PodDns): Resolver {
  const r = new Resolver({ timeout: 2_000, tries: 1 });
  r.setServers([`127.0.0.1:${dns.port}`]);
  return r;
}

/** `name` A, id 0x1234, with a case only a copy preserves and an EDNS option nobody knows. */
function rawQuery(name: string): Buffer {
  const labels = name
    .split(".")
    .map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l)]));
  return Buffer.concat([
    Buffer.from("12340100000100000000000" + "1", "hex"),
    ...labels,
    Buffer.from("0000010001", "hex"),
    Buffer.from("00002904d000000000000" + "8fde90004deadbeef", "hex"), // OPT, option 65001
  ]);
}

async function askUdp(dns: PodDns, query: Buffer): Promise<Buffer> {
  const socket: UdpSocket = createSocket("udp4");
  socket.send(query, dns.port, "127.0.0.1");
  const [answer] = (await once(socket, "message")) as [Buffer];
  socket.close();
  return answer;
}

async function askTcp(dns: PodDns, ...queries: Buffer[]): Promise<Buffer[]> {
  const socket = connect(dns.port, "127.0.0.1");
  const reader = new DnsTcpReader();
  const answers: Buffer[] = [];
  for (const query of queries) socket.write(frameTcpMessage(query));
  for await (const chunk of socket) {
    answers.push(...reader.push(chunk as Buffer).map((m) => Buffer.from(m)));
    if (answers.length >= queries.length) break;
  }
  return answers;
}

function only(counters: DnsCounters): DnsSeries {
  const [series, ...rest] = [...counters.all()];
  assert.ok(series);
  assert.equal(rest.length, 0);
  return series;
}

const timeout = { timeout: 10_000 };

test("a name of the mesh is answered without asking anybody", timeout, async () => {
  const { dns, counters } = podDns({});
  using _dns = dns;
  assert.deepEqual(await resolver(dns).resolve4("cart", { ttl: true }), [
    { address: "10.96.0.5", ttl: 30 },
  ]);
  await assert.rejects(resolver(dns).resolve6("cart"), { code: "ENODATA" });
  const series = [...counters.all()];
  assert.deepEqual(
    series.map((s) => [
      s.queryType,
      s.transport,
      s.canonicalService,
      s.requests,
      s.upstreamRequests,
    ]),
    [
      ["a", "udp", "curl-app", 1, 0],
      ["aaaa", "udp", "curl-app", 1, 0],
    ],
  );
});

test("what is not ours passes byte for byte, only the id differs", timeout, async () => {
  const tail = Buffer.from("c00c0001000100000007000401020304", "hex");
  await using up = await Upstream.start((q) => {
    const answer = Buffer.concat([q.subarray(0, q.length - 19), tail]);
    answer.writeUInt16BE(0x8180, 2);
    answer.writeUInt16BE(1, 6);
    answer.writeUInt16BE(0, 10);
    return answer;
  });
  const { dns, counters } = podDns({ servers: [up.addr] });
  using _dns = dns;
  const query = rawQuery("ExAmPlE.org");
  for (const overTcp of [false, true]) {
    const answer = overTcp ? (await askTcp(dns, query))[0] : await askUdp(dns, query);
    assert.ok(answer);
    assert.equal(answer.readUInt16BE(0), 0x1234);
    assert.ok(answer.subarray(answer.length - tail.length).equals(tail));
    assert.ok(answer.includes("ExAmPlE"));
  }
  assert.equal(up.queries.length, 2);
  for (const seen of up.queries) {
    assert.deepEqual(seen.subarray(2), query.subarray(2), "nothing but the id may change");
    assert.notEqual(seen.readUInt16BE(0), 0x1234);
  }
  const sums = [...counters.all()].map((s) => [
    s.transport,
    s.upstreamRequests,
    s.upstreamFailures,
  ]);
  assert.deepEqual(sums, [
    ["udp", 1, 0],
    ["tcp", 1, 0],
  ]);
});

test("a dead server is followed by the next, and none left is SERVFAIL", timeout, async () => {
  await using up = await Upstream.start((q) => {
    const query = parseQuery(q);
    assert.equal(query.kind, "query");
    if (query.kind !== "query") return null;
    return encodeResponse(query, { rcode: 3, authoritative: false, answers: [] }, 512);
  });
  const dead = { ip: LOCAL, port: 9 };
  const first = podDns({ servers: [dead, up.addr] });
  using _a = first.dns;
  const answer = await askUdp(first.dns, rawQuery("gone.example"));
  assert.equal((answer[3] ?? 0) & 15, 3, "NXDOMAIN is relayed");
  assert.equal(only(first.counters).upstreamFailures, 1, "and counted as a failure");
  const second = podDns({ servers: [dead] });
  using _b = second.dns;
  await assert.rejects(resolver(second.dns).resolve4("gone.example"), { code: "ESERVFAIL" });
});

test("answers nobody asked for are ignored", timeout, async () => {
  await using up = await Upstream.start((q) => {
    const forged = Buffer.from(q);
    forged.writeUInt16BE(q.readUInt16BE(0) ^ 1, 0);
    forged.writeUInt16BE(0x8180, 2);
    return forged;
  });
  const { dns } = podDns({ servers: [up.addr], timeoutMs: 100 });
  using _dns = dns;
  const answer = await askUdp(dns, rawQuery("example.org"));
  assert.equal((answer[3] ?? 0) & 15, 2);
});

test("an unknown pod gets SERVFAIL, nonsense FORMERR, other opcodes NOTIMP", timeout, async () => {
  const { dns } = podDns({ client: null });
  using _dns = dns;
  assert.equal(((await askUdp(dns, rawQuery("cart")))[3] ?? 0) & 15, 2);
  assert.equal(
    ((await askUdp(dns, Buffer.from("12340100000000000000000" + "0", "hex")))[3] ?? 0) & 15,
    1,
  );
  const notify = rawQuery("cart");
  notify[2] = 0x21;
  assert.equal(((await askUdp(dns, notify))[3] ?? 0) & 15, 4);
});

test("pipelined queries of one connection are all answered", timeout, async () => {
  const { dns } = podDns({});
  using _dns = dns;
  const queries = Array.from({ length: 100 }, (_, i) => {
    const query = rawQuery("cart.shop");
    query.writeUInt16BE(i, 0);
    return query;
  });
  const ids = (await askTcp(dns, ...queries)).map((a) => a.readUInt16BE(0));
  assert.deepEqual(
    ids.toSorted((a, b) => a - b),
    queries.map((_, i) => i),
  );
});

test("a TCP client that sends no DNS is cut off before it costs anything", timeout, async () => {
  const { dns } = podDns({});
  using _dns = dns;
  const socket = connect(dns.port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write(Buffer.alloc(65_536)); // 32 768 messages without content
  socket.resume();
  await once(socket, "close");
  assert.equal(dns.open, 0);
});

test("a TCP client has no more than 16 queries under way", timeout, async () => {
  await using up = await Upstream.start(() => null);
  const { dns } = podDns({ servers: [up.addr], timeoutMs: 300 });
  using _dns = dns;
  const socket = connect(dns.port, "127.0.0.1");
  const query = frameTcpMessage(rawQuery("slow.example"));
  socket.write(Buffer.concat(Array.from({ length: 40 }, () => query)));
  let most = 0;
  let answers = 0;
  const reader = new DnsTcpReader();
  socket.on("data", (chunk: Buffer) => (answers += reader.push(chunk).length));
  while (answers < 40) {
    most = Math.max(most, dns.open);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(most, 16);
  socket.destroy();
});

test("too many open queries are refused, not queued", timeout, async () => {
  await using up = await Upstream.start(() => null);
  const { dns } = podDns({ servers: [up.addr], timeoutMs: 5_000 });
  using _dns = dns;
  const socket = createSocket("udp4");
  for (let i = 0; i < 256; i++) socket.send(rawQuery("slow.example"), dns.port, "127.0.0.1");
  while (dns.open < 256) await new Promise((resolve) => setImmediate(resolve));
  const answer = await askUdp(dns, rawQuery("slow.example"));
  assert.equal((answer[3] ?? 0) & 15, 2);
  socket.close();
});

test("two servers share the ports, and a disposed one lets go", timeout, async () => {
  const first = podDns({});
  const second = PodDns.listen({
    handler: new DnsHandler({} as ConstructorParameters<typeof DnsHandler>[0]),
    reusePort: true,
    ipv6Enabled: true,
    port: first.dns.port,
  });
  second[Symbol.dispose]();
  using _dns = first.dns;
  assert.deepEqual(await resolver(first.dns).resolve4("cart"), ["10.96.0.5"]);
});

test("a draining server loses no query that its successor could answer", timeout, async () => {
  await using up = await Upstream.start(() => null);
  const old = podDns({ servers: [up.addr], timeoutMs: 500 });
  using _old = old.dns;
  const { port } = old.dns;
  const slow = askUdp(old.dns, rawQuery("slow.example"));
  while (old.dns.open < 1) await new Promise((resolve) => setImmediate(resolve));
  const next = podDns({}, port);
  using _next = next.dns;
  old.dns.drain();
  // the kernel spreads them over both by their source port
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => askUdp(next.dns, rawQuery("cart.shop"))),
  );
  assert.deepEqual(new Set(answers.map((a) => (a[3] ?? 0) & 15)), new Set([0]));
  assert.equal(((await slow)[3] ?? 0) & 15, 2, "what was under way is answered, too");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(old.dns.port, 0, "the port is left");
});
