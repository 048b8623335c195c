// The ZDS client and the pods behind it, against an agent of our own on a real SEQPACKET socket.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, openSync, closeSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "#lib/base/clock.ts";
import { createLogger } from "#lib/obs/log.ts";
import { listenSeqpacket, type SeqpacketConnection } from "#lib/sys/seqpacket.ts";
import { WorkloadRequest, WorkloadResponse, ZdsHello } from "#lib/wire/gen/zds.gen.ts";
import { Pods } from "./pods.ts";
import { ZdsClient } from "./zds-client.ts";

const log = createLogger({ scope: "test", level: "silent", format: "json" });
const INFO = { name: "cart-1", namespace: "shop", serviceAccount: "cart" };
const timeout = { timeout: 20_000 };

/** Collects what the pods do; `fail` decides what opening a pod answers. */
class World implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "zds-"));
  readonly path = join(this.dir, "ztunnel.sock");
  readonly listener = listenSeqpacket(this.path);
  readonly done: string[] = [];
  readonly fail = new Map<string, string | Promise<string | null>>();
  live = false;
  readonly stop = new AbortController();
  readonly pods = new Pods({
    open: async (pod, netns) => {
      this.done.push(`open ${pod.uid}`);
      assert.ok(existsSync(`/proc/self/fd/${netns}`));
      return (await this.fail.get(pod.uid)) ?? null;
    },
    close: async (uid) => void this.done.push(`close ${uid}`),
    serveDns: () => null,
    onChange: () => {},
    log,
    clock: {
      now: Date.now,
      // the retry of 5 s comes early, deadlines stay
      sleep: (ms, signal) => systemClock.sleep(ms === 5_000 ? 20 : ms === 4_000 ? 150 : ms, signal),
    },
  });
  readonly client = new ZdsClient({
    path: this.path,
    pods: this.pods,
    onLive: (isLive) => (this.live = isLive),
    log,
    clock: systemClock,
    random: Math.random,
  });
  readonly running = this.client.run(this.stop.signal);

  constructor() {
    this.running.catch(() => {}); // whoever cares awaits it
  }

  async agent(): Promise<Agent> {
    const connection = await this.listener.accept(AbortSignal.timeout(5_000));
    assert.ok(connection);
    const hello = await connection.receive();
    assert.deepEqual(hello?.bytes, ZdsHello.encode({ version: 1 }).finish().slice());
    return new Agent(connection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await this.running.catch(() => {});
    await this.pods.stopAll();
    this.listener.close();
    rmSync(this.dir, { recursive: true });
  }
}

class Agent implements Disposable {
  readonly connection: SeqpacketConnection;
  constructor(connection: SeqpacketConnection) {
    this.connection = connection;
  }

  /** Sends and returns the acknowledgement's error, or null when the proxy hung up. */
  async ask(payload: WorkloadRequest["payload"], fd?: number): Promise<string | null> {
    await this.connection.send(WorkloadRequest.encode({ payload }).finish(), fd);
    const answer = await this.connection.receive(AbortSignal.timeout(5_000));
    if (answer === null) return null;
    return WorkloadResponse.decode(answer.bytes).payload?.value.error ?? "no ack";
  }

  async add(uid: string, path = "/proc/self/ns/net"): Promise<string | null> {
    const fd = openSync(path, "r");
    try {
      return await this.ask({ $case: "add", value: { uid, workloadInfo: INFO } }, fd);
    } finally {
      closeSync(fd);
    }
  }

  keep(uid: string): Promise<string | null> {
    return this.ask({ $case: "keep", value: { uid } });
  }

  del(uid: string): Promise<string | null> {
    return this.ask({ $case: "del", value: { uid } });
  }

  snapshotSent(): Promise<string | null> {
    return this.ask({ $case: "snapshotSent", value: {} });
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }
}

async function until(what: string, is: () => boolean): Promise<void> {
  for (let i = 0; !is(); i++) {
    assert.ok(i < 500, `still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function openNetnsCount(): number {
  let count = 0;
  for (let fd = 0; fd < 200; fd++)
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith("net:")) count++;
    } catch {
      // not open
    }
  return count;
}

test(
  "pods are started, kept, reconciled and removed, and every descriptor is closed",
  timeout,
  async () => {
    const before = openNetnsCount();
    {
      await using w = new World();
      const first = await w.agent();
      assert.equal(await first.add("a"), "");
      assert.equal(await first.add("b"), "");
      assert.equal(await first.add("a"), "", "same namespace: nothing to do");
      assert.equal(w.live, false);
      assert.equal(await first.snapshotSent(), "");
      assert.equal(w.live, true);
      assert.equal(await first.add("c"), "");
      assert.equal(await first.del("unknown"), "");
      assert.deepEqual(w.done, ["open a", "open b", "open c"]);
      first.connection.close();
      await until("not live", () => !w.live);
      assert.equal(w.pods.active, 3, "a lost agent stops nobody");

      using second = await w.agent();
      assert.equal(await second.keep("a"), "");
      assert.equal(await second.add("c"), "");
      assert.equal(await second.snapshotSent(), "");
      await until("b gone", () => w.done.includes("close b"));
      assert.deepEqual(
        w.pods.views().map((v) => [v.uid, v.state]),
        [
          ["a", "Up"],
          ["c", "Up"],
        ],
      );
      assert.equal(await second.del("a"), "");
      assert.deepEqual(w.done.slice(3), ["close b", "close a"]);
      assert.deepEqual([w.pods.started, w.pods.stopped], [3, 2]);
    }
    await until("descriptors closed", () => openNetnsCount() === before);
  },
);

test("another namespace under a known uid replaces the pod", timeout, async () => {
  await using w = new World();
  using agent = await w.agent();
  assert.equal(await agent.add("a"), "");
  assert.equal(await agent.add("a", "/proc/self/ns/uts"), "");
  assert.deepEqual(w.done, ["open a", "close a", "open a"]);
  assert.equal(w.pods.active, 1);
});

test("a pod that cannot start is refused, retried, and holds up no other", timeout, async () => {
  await using w = new World();
  const retries = w.pods.retryLoop(w.stop.signal);
  using agent = await w.agent();
  w.fail.set("bad", "bind :: port 15008: EADDRINUSE");
  assert.equal(await agent.add("bad"), "bind :: port 15008: EADDRINUSE");
  assert.equal(await agent.add("good"), "");
  assert.equal(await agent.snapshotSent(), "");
  assert.deepEqual([w.pods.active, w.pods.pending], [1, 1]);
  await until("retried", () => w.done.filter((d) => d === "open bad").length > 2);
  w.fail.delete("bad");
  await until("up", () => w.pods.active === 2);
  w.stop.abort();
  await retries;
});

test("a worker that does not answer is refused in time", timeout, async () => {
  await using w = new World();
  using agent = await w.agent();
  const hung = Promise.withResolvers<null>();
  w.fail.set("slow", hung.promise);
  assert.match((await agent.add("slow")) ?? "", /not open after/);
  assert.equal(await agent.add("quick"), "");
  hung.resolve(null);
});

test("long errors are cut to what fits a datagram", timeout, async () => {
  await using w = new World();
  using agent = await w.agent();
  w.fail.set("bad", "é".repeat(2_000));
  const error = (await agent.add("bad")) ?? "";
  assert.ok(Buffer.byteLength(error) > 900 && Buffer.byteLength(error) <= 1_000);
});

test("a bad message is refused and the connection made anew", timeout, async () => {
  await using w = new World();
  const first = await w.agent();
  assert.equal(await first.add("a"), "");
  assert.match(
    (await first.ask({ $case: "add", value: { uid: "b", workloadInfo: INFO } })) ?? "",
    /0 descriptors/,
  );
  assert.equal(await first.connection.receive(), null);
  first.connection.close();
  using second = await w.agent();
  assert.equal(await second.keep("a"), "");
  assert.equal(await second.snapshotSent(), "");
  assert.equal(w.pods.active, 1);
});

test("a broken protocol ends the client", timeout, async () => {
  await using w = new World();
  using agent = await w.agent();
  assert.equal(await agent.snapshotSent(), "");
  assert.match((await agent.keep("a")) ?? "", /Keep after the snapshot/);
  await assert.rejects(w.running, { code: "ZDS_PROTOCOL" });
});

test("an agent that is not there yet is waited for", timeout, async () => {
  const dir = mkdtempSync(join(tmpdir(), "zds-"));
  const path = join(dir, "late.sock");
  const stop = new AbortController();
  const pods = new Pods({
    open: async () => null,
    close: async () => {},
    serveDns: () => null,
    onChange: () => {},
    log,
    clock: systemClock,
  });
  let isLive = false;
  const client = new ZdsClient({
    path,
    pods,
    onLive: (live) => (isLive = live),
    log,
    clock: systemClock,
    random: Math.random,
  });
  const running = client.run(stop.signal);
  await new Promise((resolve) => setTimeout(resolve, 50));
  using listener = listenSeqpacket(path);
  const connection = await listener.accept();
  assert.ok(connection);
  using agent = new Agent(connection);
  await connection.receive();
  assert.equal(await agent.snapshotSent(), "");
  assert.ok(isLive);
  stop.abort();
  await running;
  rmSync(dir, { recursive: true, force: true });
});
