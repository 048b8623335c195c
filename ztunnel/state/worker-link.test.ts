import assert from "node:assert/strict";
import { test } from "node:test";
import type { FromWorker, ToWorker } from "../proxy/messages.ts";
import { DataPlane } from "./data-plane.ts";
import { WorkerLink, type WorkerMessage, type WorkerPort } from "./worker-link.ts";

const POD = { uid: "u", name: "p", namespace: "n", serviceAccount: "s" };

/** A worker that answers only when the test says so. */
class FakePort implements WorkerPort {
  readonly sent: ToWorker[] = [];
  #listeners = new Map<string, (value: never) => void>();
  terminated = 0;

  postMessage(message: ToWorker): void {
    this.sent.push(message);
  }

  on(event: string, listener: (value: never) => void): void {
    this.#listeners.set(event, listener);
  }

  async terminate(): Promise<void> {
    this.terminated++;
  }

  say(message: FromWorker): void {
    this.emit("message", message);
  }

  emit(event: string, value: unknown): void {
    this.#listeners.get(event)?.(value as never);
  }
}

interface Setup {
  readonly ports: readonly FakePort[];
  readonly plane: DataPlane;
  readonly wakes: () => number;
  readonly fatal: unknown[];
  readonly needs: string[];
}

function setup(count: number): Setup {
  const ports = Array.from({ length: count }, () => new FakePort());
  let wakes = 0;
  const fatal: unknown[] = [];
  const needs: string[] = [];
  const plane = new DataPlane(
    count,
    (index, onMessage, onEnd) =>
      new WorkerLink(index, ports[index] as FakePort, () => wakes++, onMessage, onEnd),
    {
      onNeedCertificate: (identity, worker) => needs.push(`${identity}@${worker.index}`),
      onLog: () => {},
      onResolve: () => {},
      onFatal: (error) => fatal.push(error),
    },
  );
  return { ports, plane, wakes: () => wakes, fatal, needs };
}

test("every message wakes its worker; answers find their question by number", async () => {
  const port = new FakePort();
  const told: WorkerMessage[] = [];
  let wakes = 0;
  const link = new WorkerLink(
    0,
    port,
    () => wakes++,
    (m) => told.push(m),
    () => {},
  );
  const first = link.snapshot("tunnels");
  const second = link.snapshot("events", 7);
  assert.equal(wakes, 2);
  const [a, b] = port.sent;
  assert.ok(a?.type === "snapshot" && b?.type === "snapshot");
  assert.equal(b.sinceSeq, 7);
  port.say({ type: "snapshot", id: b.id, events: [] });
  port.say({ type: "snapshot", id: 999 });
  port.say({ type: "snapshot", id: a.id, tunnels: [] });
  assert.deepEqual((await first).tunnels, []);
  assert.deepEqual((await second).events, []);
  port.say({ type: "ready" });
  assert.deepEqual(told, [{ type: "ready" }]);
});

test("a worker that ends fails whoever waits for it, once", async () => {
  const port = new FakePort();
  const ends: string[] = [];
  const link = new WorkerLink(
    3,
    port,
    () => {},
    () => {},
    (error) => ends.push(error.message),
  );
  const waiting = link.snapshot("metrics");
  port.emit("error", new Error("out of memory"));
  port.emit("exit", 1);
  await assert.rejects(waiting, { code: "WORKER" });
  assert.deepEqual(ends, ["Data-plane worker 3 failed"]);
  link.send({ type: "pod-remove", uid: "u" });
  assert.equal(port.sent.length, 1, "nothing is sent to a worker that is gone");
});

test("disposing terminates the worker and wakes it from its sleep", async () => {
  const port = new FakePort();
  let wakes = 0;
  const ends: string[] = [];
  const link = new WorkerLink(
    0,
    port,
    () => wakes++,
    () => {},
    (e) => ends.push(e.message),
  );
  await link[Symbol.asyncDispose]();
  await link[Symbol.asyncDispose]();
  port.emit("exit", 1);
  assert.deepEqual([port.terminated, wakes, ends], [1, 1, []]);
});

test("pods go to the least loaded worker and stay there", async () => {
  const { ports, plane } = setup(2);
  const added = ["a", "b", "c"].map((uid) => plane.addPod({ ...POD, uid }, 5));
  const homes = ports.map((p) => p.sent.map((m) => m.type === "pod-add" && m.pod.uid));
  assert.deepEqual(homes, [["a", "c"], ["b"]]);
  ports[0]?.say({ type: "pod-added", uid: "a", error: null });
  ports[0]?.say({ type: "pod-added", uid: "c", error: "taken" });
  ports[1]?.say({ type: "pod-added", uid: "b", error: null });
  assert.deepEqual(await Promise.all(added), [null, null, "taken"]);
  const removed = ["a", "c"].map((uid) => plane.removePod(uid));
  ports[0]?.say({ type: "pod-removed", uid: "a" });
  ports[0]?.say({ type: "pod-removed", uid: "c" });
  await Promise.all(removed);
  void plane.addPod({ ...POD, uid: "d" }, 5);
  assert.equal(ports[0]?.sent.at(-1)?.type, "pod-add");
  await plane.removePod("never seen");
});

test("answers for one uid come in the order of the questions", async () => {
  const { ports, plane } = setup(1);
  const [port] = ports;
  const first = plane.addPod(POD, 5);
  const removed = plane.removePod("u");
  const second = plane.addPod(POD, 6);
  port?.say({ type: "pod-added", uid: "u", error: "first" });
  port?.say({ type: "pod-removed", uid: "u" });
  port?.say({ type: "pod-added", uid: "u", error: null });
  assert.equal(await first, "first");
  await removed;
  assert.equal(await second, null);
});

test("tables and certificates reach every worker; a silent one is named", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { ports, plane, needs } = setup(2);
  plane.broadcast({ type: "tables", ops: [] });
  plane.failCertificate("spiffe://x", "why");
  for (const port of ports)
    assert.deepEqual(
      port.sent.map((m) => m.type),
      ["tables", "certificate-failed"],
    );
  ports[1]?.say({ type: "need-certificate", identity: "id" });
  assert.deepEqual(needs, ["id@1"]);
  const asked = plane.snapshots("metrics");
  await Promise.resolve();
  const question = ports[0]?.sent.at(-1);
  assert.ok(question?.type === "snapshot");
  ports[0]?.say({ type: "snapshot", id: question.id });
  t.mock.timers.tick(5_000);
  const { answers, failed } = await asked;
  assert.deepEqual(
    answers.map((a) => a.worker),
    [0],
  );
  assert.match(failed[0] ?? "", /worker 1 gave no metrics/);
});

test("draining ends when all workers have drained, and at its deadline at the latest", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const one = setup(2);
  const drained = one.plane.drain(10_000);
  for (const port of one.ports) port.say({ type: "drained" });
  await drained;
  const two = setup(1);
  const late = two.plane.drain(10_000);
  t.mock.timers.tick(11_000);
  await late;
});

test("a lost worker releases its pods and is fatal", async () => {
  const { ports, plane, fatal } = setup(1);
  const added = plane.addPod(POD, 5);
  const removed = plane.removePod("u");
  ports[0]?.emit("exit", 1);
  assert.match((await added) ?? "", /exited/);
  await removed;
  assert.equal(fatal.length, 1);
  ports[0]?.say({ type: "fatal", error: "bug" });
  assert.match(String(fatal[1]), /worker 0: bug/);
});
