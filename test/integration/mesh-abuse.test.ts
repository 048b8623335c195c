// Bad input and bad manners on every door of the mesh: no part dies, memory stays bounded, the reason is
// logged, and nobody else is hurt.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect as connectH2 } from "node:http2";
import { connect as connectUnix, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, describe, test } from "node:test";
import { setImmediate as immediate, setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { parseIp } from "#lib/net/ip.ts";
import { connectSeqpacket } from "#lib/sys/seqpacket.ts";
import { bindUdp } from "#lib/sys/socket.ts";
import type { Lab } from "../../lab/lab.ts";
import { ISTIOD_HOST } from "../../lab/mesh-parts.ts";
import type { Netns } from "../../lab/netns.ts";
import type { LabPod } from "../../lab/pod.ts";
import { connectFrom } from "../../lab/probe.ts";
import { workload } from "../../lab/workloads.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  AMBIENT,
  dial,
  echoLines,
  known,
  listen,
  logLine,
  pidOf,
  pod,
  privateKb,
  sharedMesh,
  suite,
  tryAsk,
  tunnels,
  within,
  type Peer,
  type Service,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
const ISTIOD_ADDRESS = "172.30.0.100";
const PARTS = [
  ["istiod", undefined],
  ["ztunnel", "a"],
  ["ztunnel", "b"],
  ["cni", "a"],
  ["cni", "b"],
] as const;
/** What a part's heap may grow by under abuse before a garbage collection is due anyway. */
const MAX_GROWTH_KB = 96 * 1024;
/** Twenty connections whose client never reads: each may hold its stream window, and the sockets' buffers are the kernel's. */
const SLOW_READERS = 20;
const MAX_BACKLOG_KB = 64 * 1024;

describe("abuse", suite(needsLab, 180_000), () => {
  let client: LabPod;
  let server: LabPod;
  let attacker: LabPod;
  let outsider: LabPod;
  let echo: Service;
  after(() => echo[Symbol.asyncDispose]());
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, server, attacker, outsider] = await Promise.all([
      pod(lab, "a", "client"),
      pod(lab, "b", "server"),
      pod(lab, "a", "attacker"),
      pod(lab, "a", "outsider", { labels: { "istio.io/dataplane-mode": "none" } }),
    ]);
    await known(lab, client, server, attacker);
    echo = await echoLines(server);
  });

  /** Runs `attack` with the doors watched: same processes afterwards, bounded memory, traffic as before. */
  async function survives(attack: () => Promise<void>): Promise<void> {
    const before = PARTS.map(([part, node]) => pidOf(mesh(), part, node));
    const memory = before.map(privateKb);
    await attack();
    assert.deepEqual(mesh().mesh.endedParts(), []);
    assert.deepEqual(
      PARTS.map(([part, node]) => pidOf(mesh(), part, node)),
      before,
    );
    const growth = before.map((pid, i) => privateKb(pid) - (memory[i] ?? 0));
    for (const [i, kb] of growth.entries())
      assert.ok(kb < MAX_GROWTH_KB, `${PARTS[i]?.join(" ")} grew by ${kb} kB`);
    assert.equal(await tryAsk(client, server.ip), `server ${client.ip} hello`);
  }

  const doors: readonly {
    readonly name: string;
    readonly from: () => { readonly netns: Netns };
    readonly ip: () => string;
    readonly port: number;
    readonly logs:
      | readonly [part: "istiod" | "ztunnel", node: string | undefined, line: RegExp]
      | null;
  }[] = [
    {
      name: "HBONE (15008)",
      from: () => outsider,
      ip: () => server.ip,
      port: 15_008,
      logs: [
        "ztunnel",
        "b",
        /warn\taccess\tconnection failed\t.*:15008 direction="inbound".*reason="tls"/,
      ],
    },
    {
      name: "outbound capture (15001) from another pod",
      from: () => outsider,
      ip: () => server.ip,
      port: 15_001,
      logs: ["ztunnel", "b", /connection failed\t.*:15001 .*reason="self_call"/],
    },
    {
      name: "outbound capture (15001) from inside the pod",
      from: () => client,
      ip: () => "127.0.0.1",
      port: 15_001,
      logs: ["ztunnel", "a", /connection failed\t.*127\.0\.0\.1:15001 .*reason="self_call"/],
    },
    {
      name: "inbound capture (15006) from another pod",
      from: () => outsider,
      ip: () => server.ip,
      port: 15_006,
      logs: ["ztunnel", "b", /connection failed\t.*:15006 .*reason="self_call"/],
    },
    {
      name: "inbound capture (15006) from inside the pod",
      from: () => client,
      ip: () => "127.0.0.1",
      port: 15_006,
      logs: ["ztunnel", "a", /connection failed\t.*127\.0\.0\.1:15006 .*reason="self_call"/],
    },
    {
      name: "DNS over TCP (15053)",
      from: () => client,
      ip: () => "127.0.0.1",
      port: 15_053,
      logs: null,
    },
    {
      name: "istiod (15012)",
      from: () => mesh().node("a"),
      ip: () => ISTIOD_ADDRESS,
      port: 15_012,
      logs: null,
    },
  ];
  for (const door of doors)
    test(`garbage on ${door.name}`, async () => {
      await survives(async () => {
        for (const bytes of garbage()) await pelt(door.from(), door.ip(), door.port, bytes, 20);
      });
      if (door.logs !== null) await logLine(mesh(), ...door.logs);
    });

  test("garbage on DNS over UDP (15053) is answered with FORMERR or not at all", async () => {
    await post(mesh(), "a", "/logging?level=dns=debug");
    const socket = createSocket("udp4");
    const replies: Buffer[] = [];
    await new Promise<void>((done) =>
      socket.bind(
        { fd: bindUdp({ ip: parseIp("127.0.0.1"), port: 0, netns: client.netns.fd }) },
        done,
      ),
    );
    socket.on("message", (reply: Buffer) => replies.push(reply));
    await survives(async () => {
      for (let n = 0; n < 2_000; n++) socket.send(randomBytes(1 + (n % 600)), 15_053, "127.0.0.1");
      await within("some FORMERR or NOTIMP", () => replies.length > 20);
    });
    socket.close();
    for (const reply of replies) assert.ok(reply.length >= 12 && (reply[2] ?? 0) >= 0x80);
    await logLine(mesh(), "ztunnel", "a", /debug\tdns\tdns message refused\t.*reason=/);
    await post(mesh(), "a", "/logging?reset");
  });

  test("garbage on the agent's ztunnel socket: the real ztunnel stays in charge", async () => {
    const path = join(mesh().node("a").dir, "run", "ztunnel.sock");
    await survives(async () => {
      for (const bytes of [
        randomBytes(1_000),
        Buffer.from([8, 1]),
        Buffer.from("GET / HTTP/1.1\r\n"),
      ])
        for (let n = 0; n < 3; n++) {
          using connection = await connectSeqpacket(path);
          await connection.send(bytes).catch(() => {});
          await connection.send(randomBytes(64)).catch(() => {}); // it may be closed by now
          await within("the agent hangs up", async () => (await connection.receive()) === null);
        }
    });
    await logLine(mesh(), "cni", "a", /ztunnel disconnected\t.*why=/);
    const late = await pod(mesh(), "a", "late", { retryMs: 10_000 });
    await known(mesh(), late);
    await mesh().node("a").deletePod("shop", "late");
  });

  test("garbage on the agent's plugin sockets", async () => {
    const dir = join(mesh().node("a").dir, "run");
    await survives(async () => {
      for (const name of ["pluginevent.sock", "log.sock"])
        for (const bytes of garbage())
          for (let n = 0; n < 5; n++) await peltOnce(connectUnix(join(dir, name)), bytes);
      for (const body of [
        "",
        "{",
        "[]",
        '{"Netns":5}',
        JSON.stringify({ PodName: "x".repeat(100_000) }),
      ]) {
        const status = await postUnix(join(dir, "pluginevent.sock"), "/cmdadd", body);
        assert.ok(status === 400 || status === 500, `${status} to ${body.slice(0, 20)}`);
        await postUnix(join(dir, "log.sock"), "/log", body);
      }
    });
    await logLine(mesh(), "cni", "a", /malformed plugin request\t/);
  });

  test("garbage in gRPC: no token, a false one, and nonsense for messages", async () => {
    await survives(async () => {
      for (const authorization of ["", "Bearer nonsense", `Bearer ${"x".repeat(5_000)}`])
        for (const path of [
          "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
          "/istio.v1.auth.IstioCertificateService/CreateCertificate",
          "/no.such.Service/Call",
        ])
          await badCall(mesh().node("a"), path, authorization);
    });
    await logLine(mesh(), "istiod", undefined, /authentication failed\t.*reason="malformed"/);
  });

  test("clients that never read: memory stays bounded, their tunnel's other connections are as fast as before", async () => {
    const flood = Buffer.alloc(1 << 20, 0x66);
    await using _ = await listen(server, 9_090, (peer) => {
      const push = (): void => {
        while (!peer.socket.destroyed && peer.socket.writableLength < 1 << 20)
          peer.socket.write(flood);
      };
      peer.socket.on("drain", push);
      push();
    });
    const ztunnels = (): number =>
      privateKb(pidOf(mesh(), "ztunnel", "a")) + privateKb(pidOf(mesh(), "ztunnel", "b"));
    using other = await dial(client, server.ip, 8080);
    const quiet = await medianMs(other);
    const before = ztunnels();
    const slow: Peer[] = [];
    try {
      for (let n = 0; n < SLOW_READERS; n++) {
        const peer = await dial(client, server.ip, 9_090);
        peer.socket.pause();
        slow.push(peer);
      }
      await within("the flood stands still", async () => {
        const bytes = await sentBytes(mesh());
        await sleep(300); // to see whether anything moves
        return bytes > 0 && (await sentBytes(mesh())) === bytes;
      });
      const tunnelIds = new Set(
        (await tunnels(mesh(), "a")).filter((t) => t.direction === "outbound").map((t) => t.tunnel),
      );
      assert.equal(tunnelIds.size, 1, "all of them share one tunnel");
      const busy = await medianMs(other);
      const grown = ztunnels() - before;
      assert.ok(grown < MAX_BACKLOG_KB, `the ztunnels grew by ${grown} kB`);
      assert.ok(busy < quiet * 5 + 5, `${busy} ms per question, ${quiet} ms before`);
      assert.equal(await tryAsk(client, server.ip), `server ${client.ip} hello`);
    } finally {
      for (const peer of slow) peer.socket.destroy();
    }
    await within("all are gone", async () => (await tunnels(mesh(), "b")).length <= 1);
  });

  test("a server that never reads holds up its own client only", async () => {
    await using _ = await listen(server, 9_091, (peer) => peer.socket.pause());
    await survives(async () => {
      using peer = await dial(client, server.ip, 9_091);
      const chunk = Buffer.alloc(1 << 20, 0x67);
      let sent = 0;
      while (peer.socket.writableLength < 4 << 20 && sent < 256 << 20) {
        peer.socket.write(chunk);
        sent += chunk.length;
        await immediate();
      }
      assert.ok(sent < 256 << 20, "it was stopped");
      using other = await dial(client, server.ip, 8080);
      assert.match(await other.ask("next to it"), /next to it$/);
    });
  });

  test("a pod that connects and resets at full speed hurts nobody else", async () => {
    await using target = await server.start(workload("echo-server", { port: 9_093 }));
    await target.waitForOutput(/listening/);
    using other = await dial(client, server.ip, 8080);
    await other.ask("before");
    let attempts = 0;
    const endAt = performance.now() + 3_000;
    const attack = async (): Promise<void> => {
      while (performance.now() < endAt) {
        const socket = await connectFrom(attacker.netns, server.ip, 9_093, 2_000).catch(() => null);
        socket?.on("error", () => {});
        socket?.resetAndDestroy();
        attempts++;
        await immediate(); // a connection to a captured port is there at once: nothing above has waited
      }
    };
    await survives(async () => {
      const attacks = Promise.all(Array.from({ length: 8 }, attack));
      while (performance.now() < endAt) {
        using fresh = await dial(client, server.ip, 8080);
        assert.match(await fresh.ask("new"), /new$/);
        assert.match(await other.ask("open"), /open$/);
      }
      await attacks;
    });
    assert.ok(attempts > 200, `${attempts} attempts`);
    await within("no trace is left", async () => {
      const views = [...(await tunnels(mesh(), "a")), ...(await tunnels(mesh(), "b"))];
      return views.every((t) => !t.source.identity?.endsWith("/sa/attacker"));
    });
  });

  test("a peer with a good certificate that resets its streams at once is cut off", {
    timeout: 40_000,
  }, async (t) => {
    const token = join(mesh().dir, "token-outsider");
    const subject = { namespace: "shop", serviceAccount: "outsider", node: { name: "a" } };
    await writeFile(token, await mesh().mesh.issueToken(subject));
    await using victim = await server.start(workload("echo-server", { port: 9_092 }));
    await victim.waitForOutput(/listening/);
    using other = await dial(client, server.ip, 8080);
    await survives(async () => {
      const run = outsider.exec(
        [
          process.execPath,
          join(import.meta.dirname, "mesh-rapid-reset.ts"),
          `--ca=https://${ISTIOD_HOST}:15012`,
          `--root=${join(mesh().dir, "root-cert.pem")}`,
          `--token=${token}`,
          "--account=shop/outsider",
          `--to=${server.ip}`,
          `--authority=${server.ip}:9092`,
          "--seconds=3",
        ],
        { timeoutMs: 20_000 },
      );
      let isOver = false;
      void run.finally(() => (isOver = true));
      let slowestMs = 0;
      while (!isOver) {
        const began = performance.now();
        assert.match(await other.ask("open"), /open$/);
        slowestMs = Math.max(slowestMs, performance.now() - began);
      }
      t.diagnostic(`the slowest answer to somebody else took ${Math.round(slowestMs)} ms`);
      const lines = (await run).stdout
        .trim()
        .split("\n")
        .map((l) => JSON.parse(l) as { streams: number; code: number });
      // ENHANCE_YOUR_CALM
      assert.ok(
        lines.some((l) => l.code === 11),
        JSON.stringify(lines.slice(0, 3)),
      );
    });
    await logLine(mesh(), "ztunnel", "b", /connection failed\t.*reset streams.*reason="h2"/);
  });
});

/** What strangers send: noise, other protocols, half of the right one. */
function garbage(): Buffer[] {
  return [
    randomBytes(2_048),
    Buffer.alloc(65_536, 0),
    Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1"),
    Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0]), randomBytes(600)]),
    Buffer.from([0xff, 0xff]),
  ];
}

async function pelt(
  from: { readonly netns: Netns },
  ip: string,
  port: number,
  bytes: Buffer,
  times: number,
): Promise<void> {
  await Promise.all(
    Array.from({ length: times }, async () => {
      const socket = await connectFrom(from.netns, ip, port, 3_000).catch(() => null);
      if (socket !== null) await peltOnce(socket, bytes);
    }),
  );
}

/** Sends and waits for the other side's end, for a short while: it may rightly wait for more. */
function peltOnce(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.resetAndDestroy(), 200);
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve();
    });
    socket.resume();
    socket.end(bytes);
  });
}

function postUnix(socketPath: string, path: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const post = request({ socketPath, path, method: "POST" }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    post.once("error", reject);
    post.end(body);
  });
}

async function post(lab: Lab, node: string, path: string): Promise<void> {
  const { stdout } = await lab
    .node(node)
    .exec(["curl", "-s", "-X", "POST", `http://127.0.0.1:15000${path}`]);
  assert.match(stdout, /level/i);
}

/** A gRPC call with nonsense for a message. Resolves when the server has ended it. */
async function badCall(
  from: { readonly netns: Netns },
  path: string,
  authorization: string,
): Promise<void> {
  const socket = await connectFrom(from.netns, ISTIOD_ADDRESS, 15_012, 3_000);
  const tls = connectTls({ socket, ALPNProtocols: ["h2"], rejectUnauthorized: false });
  const session = connectH2("https://istiod", { createConnection: () => tls });
  session.on("error", () => {});
  try {
    const call = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...(authorization === "" ? {} : { authorization }),
    });
    call.on("error", () => {});
    call.end(Buffer.concat([Buffer.from([0, 0, 0, 1, 0]), randomBytes(256)]));
    await Promise.race([text(call).catch(() => ""), sleep(2_000)]);
  } finally {
    session.destroy();
  }
}

async function medianMs(peer: Peer): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < 25; n++) {
    const began = performance.now();
    await peer.ask(`n${n}`, 5_000);
    times.push(performance.now() - began);
    peer.forget();
  }
  return times.toSorted((a, b) => a - b)[12] ?? 0;
}

async function sentBytes(lab: Lab): Promise<number> {
  const views = (await tunnels(lab, "b")).filter((t) => t.destination.address.endsWith(":9090"));
  return views.length < SLOW_READERS ? 0 : views.reduce((sum, t) => sum + t.tx.bytes, 0);
}
