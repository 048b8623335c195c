import assert from "node:assert/strict";
import { test } from "node:test";
import { MeshTables } from "#lib/model/tables.ts";
import type { TableOp } from "#lib/model/table-op.ts";
import { workload } from "#lib/model/test-mesh.ts";
import { Authorization } from "#lib/wire/gen/authorization.gen.ts";
import { Address } from "#lib/wire/gen/workload.gen.ts";
import { LocalIdentities } from "./local-identities.ts";
import { BATCH_RESOURCES, TableFeed } from "./table-feed.ts";
import { WorkloadWatch } from "./workload-watch.ts";

interface Received {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

function address(uid: string, part: Record<string, unknown> = {}): Received {
  const value = {
    uid,
    name: uid,
    namespace: "ns",
    addresses: [Buffer.from([10, 0, 0, 1])],
    ...part,
  };
  const bytes = Address.encode(
    Address.fromPartial({ type: { $case: "workload", value } }),
  ).finish();
  return { name: uid, version: "1", bytes };
}

function policy(name: string): Received {
  const bytes = Authorization.encode(Authorization.fromPartial({ name, namespace: "ns" })).finish();
  return { name: `ns/${name}`, version: "", bytes };
}

function setup(): { tables: MeshTables; feed: TableFeed; batches: (readonly TableOp[])[] } {
  const tables = new MeshTables({ node: "n1" });
  const batches: (readonly TableOp[])[] = [];
  return { tables, feed: new TableFeed(tables, ({ ops }) => batches.push(ops)), batches };
}

test("accepted resources reach the workers in shared memory, refused ones do not", () => {
  const { tables, feed, batches } = setup();
  const bad = { name: "bad", version: "1", bytes: Buffer.from("ffff", "hex") };
  const rejected = feed.apply("address", {
    resources: [address("a"), bad, address("b")],
    removed: ["gone"],
    isLast: true,
  });
  assert.deepEqual(
    rejected.map((r) => r.name),
    ["bad"],
  );
  assert.equal(tables.workloadCount, 2);
  const ops = batches.flat();
  assert.deepEqual(
    ops.map((o) => `${o.op} ${o.name}`),
    ["address a", "address b", "remove-address gone"],
  );
  const replica = new MeshTables();
  for (const op of ops) if ("bytes" in op) assert.ok(op.bytes.buffer instanceof SharedArrayBuffer);
  // what a worker receives is a clone of the message
  assert.deepEqual(replica.apply(structuredClone(ops)), []);
  assert.deepEqual([...replica.workloads()].map((w) => w.uid).toSorted(), ["a", "b"]);
});

test("addresses travel in bounded batches, the policies of a piece in one", () => {
  const { feed, batches } = setup();
  const many = Array.from({ length: BATCH_RESOURCES + 1 }, (_, i) => i);
  feed.apply("address", {
    resources: many.map((i) => address(`w${i}`)),
    removed: [],
    isLast: true,
  });
  assert.deepEqual(
    batches.map((b) => b.length),
    [BATCH_RESOURCES, 1],
  );
  feed.apply("policy", {
    resources: many.map((i) => policy(`p${i}`)),
    removed: ["ns/x"],
    isLast: true,
  });
  assert.equal(batches.at(-1)?.length, BATCH_RESOURCES + 2);
});

test("an update without content sends nothing", () => {
  const { feed, batches } = setup();
  assert.deepEqual(feed.apply("policy", { resources: [], removed: [], isLast: true }), []);
  assert.deepEqual(batches, []);
});

test("identities appear with HBONE workloads and go with the last workload", () => {
  const identities = new LocalIdentities();
  const a = workload("a");
  const plain = workload("b", { protocol: "TCP" });
  const native = workload("c", { protocol: "TCP", nativeTunnel: true });
  const first = identities.update([a, plain, native]);
  assert.deepEqual(
    first.appeared.map((id) => id.split("/").at(-1)),
    ["a", "c"],
  );
  assert.deepEqual(identities.update([a, plain, native]), { appeared: [], gone: [] });
  const second = identities.update([plain, { ...native, nativeTunnel: false }]);
  assert.deepEqual(second, { appeared: [], gone: [first.appeared[0]] });
});

test("whoever waits for a pod's record hears when it comes, times out, or gives up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { tables, feed } = setup();
  const watch = new WorkloadWatch(tables);
  const pod = { uid: "u", name: "p", namespace: "ns", serviceAccount: "sa" };
  const { signal } = new AbortController();
  const waiting = watch.find(pod, signal);
  const stop = new AbortController();
  const given = watch.find({ ...pod, name: "q" }, stop.signal);
  const late = watch.find({ ...pod, name: "r" }, signal);
  const resources = [address("p", { serviceAccount: "sa", node: "n1" })];
  feed.apply("address", { resources, removed: [], isLast: true });
  watch.notify();
  assert.equal((await waiting)?.uid, "p");
  assert.equal((await watch.find(pod, signal))?.uid, "p");
  stop.abort();
  assert.equal(await given, null);
  t.mock.timers.tick(5_000);
  assert.equal(await late, null);
});
