// The agent's end of ZDS over real sockets: order, lock-step, several ztunnels, broken ones.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { PodNetns } from "./pod-netns.ts";
import { TestZtunnel, until } from "./test-ztunnel.ts";
import type { MeshedPod, SnapshotEntry } from "./zds-connection.ts";
import { ZdsServer } from "./zds-server.ts";

const pod = (uid: string): MeshedPod => ({
  uid,
  name: `name-${uid}`,
  namespace: "shop",
  serviceAccount: "cart",
});

/** A server with a snapshot to choose; its own namespace stands for a pod's. */
class Bench implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "cni-zds-"));
  readonly path = join(this.dir, "z.sock");
  readonly netns = PodNetns.open("/proc/self/ns/net");
  snapshot: SnapshotEntry[] = [];
  changes = 0;
  readonly server: ZdsServer;

  constructor(timeoutMs = 5_000) {
    this.server = ZdsServer.listen({
      path: this.path,
      log: pino({ level: "silent" }),
      snapshot: () => this.snapshot,
      onChange: () => this.changes++,
      // no pause between connections: the tests make several
      clock: { now: () => Date.now(), sleep: (ms, signal) => pause(Math.min(ms, 1), signal) },
      timeoutMs,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    this.netns[Symbol.dispose]();
    rmSync(this.dir, { recursive: true });
  }
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

test("the snapshot comes first, each message after the answer to the last", async () => {
  await using bench = new Bench();
  bench.snapshot = [
    { pod: pod("a"), netns: bench.netns },
    { pod: pod("b"), netns: null },
  ];
  using ztunnel = await TestZtunnel.connect(bench.path);
  let waiting = 0;
  ztunnel.answer = () => {
    assert.equal(++waiting, 1, "one at a time");
    waiting--;
    return "";
  };
  await ztunnel.has("snapshotSent");
  assert.deepEqual(ztunnel.log, ["add a", "keep b", "snapshotSent"]);
  const [add, keep, sent] = ztunnel.seen;
  assert.deepEqual([add?.fds, keep?.fds, sent?.fds], [1, 0, 0]);
  assert.equal(add?.netnsId, bench.netns.id);
  assert.deepEqual([...(sent?.bytes ?? [])], [0x1a, 0x00]);
  await until("the ack to count", () => bench.changes || undefined);
  assert.equal(bench.server.hasAcked("a", bench.netns.id), true);
  assert.equal(bench.server.hasAcked("a", "0:0"), false);
  assert.equal(bench.server.hasAcked("b", bench.netns.id), false);
});

test("nothing is sent before the hello; a silent client is cut", async () => {
  await using bench = new Bench(100);
  using ztunnel = await TestZtunnel.connect(bench.path, false);
  await ztunnel.gone();
  assert.deepEqual(ztunnel.seen, []);
  assert.equal(bench.server.connectedCount, 0);
});

test("add and del are answered by the ztunnel; a refusal leaves the connection", async () => {
  await using bench = new Bench();
  using ztunnel = await TestZtunnel.connect(bench.path);
  await ztunnel.has("snapshotSent");
  assert.deepEqual(await bench.server.add(pod("a"), bench.netns), { kind: "ack" });
  ztunnel.answer = () => "listener failed";
  assert.deepEqual(await bench.server.add(pod("b"), bench.netns), {
    kind: "nack",
    error: "listener failed",
  });
  assert.equal(bench.server.hasAcked("b", bench.netns.id), false);
  ztunnel.answer = () => "";
  await bench.server.del("a");
  assert.deepEqual(ztunnel.log, ["snapshotSent", "add a", "add b", "del a"]);
  assert.equal(ztunnel.isGone, false);
});

test("a pod the snapshot brought is not added again", async () => {
  await using bench = new Bench();
  bench.snapshot = [{ pod: pod("a"), netns: bench.netns }];
  using ztunnel = await TestZtunnel.connect(bench.path);
  await ztunnel.has("snapshotSent");
  assert.deepEqual(await bench.server.add(pod("a"), bench.netns), { kind: "ack" });
  assert.deepEqual(ztunnel.log, ["add a", "snapshotSent"]);
});

test("without a ztunnel add has nobody to ask, and del has nothing to do", async () => {
  await using bench = new Bench();
  assert.equal(await bench.server.add(pod("a"), bench.netns), null);
  await bench.server.del("a");
});

test("adds go to the newest, dels to all, and the older one takes over again", async () => {
  await using bench = new Bench();
  using old = await TestZtunnel.connect(bench.path);
  await old.has("snapshotSent");
  using young = await TestZtunnel.connect(bench.path);
  await young.has("snapshotSent");
  await bench.server.add(pod("a"), bench.netns);
  await bench.server.del("x");
  await Promise.all([old.has("del", "x"), young.has("del", "x")]);
  assert.deepEqual(old.log, ["snapshotSent", "del x"]);
  assert.deepEqual(young.log, ["snapshotSent", "add a", "del x"]);
  young[Symbol.dispose]();
  await until("the loss to be seen", () => bench.server.connectedCount === 1 || undefined);
  assert.equal(bench.server.hasAcked("a", bench.netns.id), false);
  assert.deepEqual(await bench.server.add(pod("a"), bench.netns), { kind: "ack" });
  assert.deepEqual(old.log.at(-1), "add a");
});

test("closing out of order removes exactly the closed one", async () => {
  await using bench = new Bench();
  const all = [];
  for (let i = 0; i < 3; i++) {
    const ztunnel = await TestZtunnel.connect(bench.path);
    await ztunnel.has("snapshotSent");
    all.push(ztunnel);
  }
  all[1]?.[Symbol.dispose]();
  await until("the loss to be seen", () => bench.server.connectedCount === 2 || undefined);
  await bench.server.add(pod("a"), bench.netns);
  assert.deepEqual(all[2]?.log, ["snapshotSent", "add a"]);
  for (const ztunnel of all) ztunnel[Symbol.dispose]();
});

test("no answer in time ends the connection, so that a late one cannot be mistaken", async () => {
  await using bench = new Bench(150);
  using ztunnel = await TestZtunnel.connect(bench.path);
  await ztunnel.has("snapshotSent");
  ztunnel.answer = () => null;
  const [first, second] = await Promise.all([
    bench.server.add(pod("a"), bench.netns),
    bench.server.add(pod("b"), bench.netns),
  ]);
  assert.equal(first?.kind, "lost");
  assert.equal(second?.kind, "lost", "those waiting are released");
  await ztunnel.gone();
  assert.deepEqual(ztunnel.log, ["snapshotSent", "add a"]);
});

for (const c of [
  { name: "unasked", bytes: Uint8Array.of(0x0a, 0x00) },
  { name: "too long", bytes: new Uint8Array(1024).fill(0x55) },
])
  test(`a message ${c.name} ends the connection`, async () => {
    await using bench = new Bench();
    using ztunnel = await TestZtunnel.connect(bench.path);
    await ztunnel.has("snapshotSent");
    await until("the connection to be live", () => bench.changes || undefined);
    await ztunnel.say(c.bytes);
    await ztunnel.gone();
  });

test("an answer that cannot be read ends the connection", async () => {
  await using bench = new Bench();
  using ztunnel = await TestZtunnel.connect(bench.path);
  await ztunnel.has("snapshotSent");
  ztunnel.answer = () => null;
  const add = bench.server.add(pod("a"), bench.netns);
  await ztunnel.has("add", "a");
  await ztunnel.say(Uint8Array.of(0xff, 0xff));
  assert.equal((await add)?.kind, "lost");
  await ztunnel.gone();
});

test("a ztunnel that does not keep up is refused more work", async () => {
  await using bench = new Bench();
  using ztunnel = await TestZtunnel.connect(bench.path);
  await ztunnel.has("snapshotSent");
  ztunnel.answer = () => null;
  const adds = Array.from({ length: 101 }, (_, i) => bench.server.add(pod(`p${i}`), bench.netns));
  const last = await adds.at(-1);
  assert.equal(last?.kind, "lost");
  ztunnel[Symbol.dispose]();
  for (const add of adds) assert.equal((await add)?.kind, "lost");
});

test("sending pods leaks no descriptor", async () => {
  await using bench = new Bench();
  using ztunnel = await TestZtunnel.connect(bench.path);
  await ztunnel.has("snapshotSent");
  await bench.server.add(pod("first"), bench.netns);
  const before = readdirSync("/proc/self/fd").length;
  for (let i = 0; i < 50; i++) await bench.server.add(pod(`p${i}`), bench.netns);
  assert.equal(readdirSync("/proc/self/fd").length, before);
});
