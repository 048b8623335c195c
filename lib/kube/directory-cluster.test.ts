// The directory backend over real files: what watches see, what faults leave standing, what writers keep.
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeObject, Resource, WatchEvent } from "./cluster.ts";
import { DirectoryCluster } from "./directory-cluster.ts";
import { KubeError } from "./errors.ts";
import { RESOURCES, type Pod, type Service } from "./objects.ts";

const AS = { fieldManager: "test" };

function scratch(): { dir: string } & Disposable {
  const dir = mkdtempSync(join(tmpdir(), "ambit-kube-"));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

function put(dir: string, name: string, text: string): string {
  const file = join(dir, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.tmp`, text);
  renameSync(`${file}.tmp`, file);
  return file;
}

function pod(name: string, extra = ""): string {
  return `apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\n  namespace: shop\n${extra}`;
}

class Seen<T extends KubeObject> implements Disposable {
  readonly batches: WatchEvent<T>[][] = [];
  readonly errors: Error[] = [];
  synced = false;
  readonly #end = new AbortController();
  readonly ended: Promise<void>;

  constructor(cluster: DirectoryCluster, resource: Resource<T>, options = {}) {
    this.ended = cluster.watch(
      resource,
      {
        onEvents: (events) => this.batches.push([...events]),
        onSynced: () => (this.synced = true),
        onError: (error) => this.errors.push(error),
      },
      { ...options, signal: this.#end.signal },
    );
  }

  get events(): string[] {
    return this.batches.flat().map((e) => `${e.type} ${e.object.metadata.name}`);
  }

  async until(condition: () => boolean, ms = 3000): Promise<void> {
    for (const end = Date.now() + ms; !condition(); await sleep(2))
      if (Date.now() > end) assert.fail(`not within ${ms} ms; saw ${this.events.join(", ")}`);
  }

  [Symbol.dispose](): void {
    this.#end.abort();
  }
}

test("a watch lists, syncs, then follows the files", async () => {
  using s = scratch();
  put(s.dir, "all.yaml", `${pod("a")}---\n${pod("b")}`);
  const cluster = new DirectoryCluster(s.dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.synced);
  assert.deepEqual(seen.events, ["added a", "added b"]);
  put(s.dir, "all.yaml", `${pod("a", "  labels:\n    x: y\n")}---\n${pod("c")}`);
  await seen.until(() => seen.events.length === 5);
  assert.deepEqual(seen.batches[1]?.map((e) => `${e.type} ${e.object.metadata.name}`).sort(), [
    "added c",
    "deleted b",
    "modified a",
  ]);
  rmSync(join(s.dir, "all.yaml"));
  await seen.until(() => seen.events.length === 7);
});

test("directories made, filled, renamed and removed while watching are followed", async () => {
  using s = scratch();
  const cluster = new DirectoryCluster(s.dir, { sweepMs: 60_000 });
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.synced);
  put(s.dir, "pods/shop/a.yaml", pod("a"));
  await seen.until(() => seen.events.length === 1);
  put(s.dir, "pods/shop/b.yaml", pod("b"));
  await seen.until(() => seen.events.length === 2);
  renameSync(join(s.dir, "pods"), join(s.dir, "pods2"));
  await sleep(50);
  put(s.dir, "pods2/shop/c.yaml", pod("c"));
  await seen.until(() => seen.events.includes("added c"));
  rmSync(join(s.dir, "pods2"), { recursive: true });
  await seen.until(() => (seen.events.at(-1) ?? "").startsWith("deleted"));
  await seen.until(() => seen.events.filter((e) => e.startsWith("deleted")).length >= 3);
  assert.deepEqual(await cluster.list(RESOURCES.pods), []);
});

test("a change is seen within 20 ms", async () => {
  using s = scratch();
  const cluster = new DirectoryCluster(s.dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.synced);
  put(s.dir, "pods/shop/first.yaml", pod("first"));
  await seen.until(() => seen.events.length === 1);
  const times: number[] = [];
  for (let i = 0; i < 15; i++) {
    const from = performance.now();
    put(s.dir, "pods/shop/p.yaml", pod("p", `  labels:\n    n: v${i}\n`));
    while (seen.events.length < 2 + i) await sleep(1);
    times.push(performance.now() - from);
  }
  const median = times.sort((a, b) => a - b)[7] ?? Infinity;
  assert.ok(median < 20, `median ${median} ms`);
});

test("a broken edit is reported with file, line and field, and the last good state stays", async () => {
  using s = scratch();
  const file = put(s.dir, "web.yaml", pod("web"));
  const cluster = new DirectoryCluster(s.dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.synced);
  put(s.dir, "web.yaml", pod("web", "spec:\n  hostNetwork: often\n"));
  await seen.until(() => seen.errors.length === 1);
  const [error] = seen.errors;
  assert.ok(error instanceof KubeError);
  assert.deepEqual(
    [error.code, error.file, error.line, error.field],
    ["INVALID", file, 7, "spec.hostNetwork"],
  );
  assert.match(
    error.message,
    /web\.yaml:7: spec\.hostNetwork: expected true or false, got "often"/,
  );
  put(s.dir, "web.yaml", "apiVersion: v1\nkind: {\n");
  await seen.until(() => seen.errors.length === 2);
  assert.equal((seen.errors[1] as KubeError).code, "MALFORMED");
  assert.equal((await cluster.list(RESOURCES.pods)).length, 1);
  put(s.dir, "web.yaml", pod("web", "  labels:\n    ok: 'yes'\n"));
  await seen.until(() => seen.events.includes("modified web"));
});

test("late watchers hear of faults that stand; good documents of a bad file load at start", async () => {
  using s = scratch();
  put(
    s.dir,
    "x.yaml",
    `${pod("good")}---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: Bad_Name\n`,
  );
  const cluster = new DirectoryCluster(s.dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.synced);
  assert.deepEqual(seen.events, ["added good"]);
  assert.match(seen.errors[0]?.message ?? "", /x\.yaml:\d+: metadata\.name: expected a DNS name/);
});

test("a duplicate is reported, the first file by path counts, and the other takes over", async () => {
  using s = scratch();
  put(s.dir, "b.yaml", pod("web", "  labels:\n    from: b\n"));
  const cluster = new DirectoryCluster(s.dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.synced);
  put(s.dir, "c.yaml", pod("web", "  labels:\n    from: c\n"));
  await seen.until(() => seen.errors.length === 1);
  assert.equal((seen.errors[0] as KubeError).code, "DUPLICATE");
  assert.deepEqual(seen.events, ["added web"]);
  rmSync(join(s.dir, "b.yaml"));
  await seen.until(() => seen.events.length === 2);
  assert.equal((await cluster.get(RESOURCES.pods, "shop", "web"))?.metadata.labels?.from, "c");
});

test("a directory that is not there is an error, not an empty cluster", async () => {
  using s = scratch();
  const dir = join(s.dir, "later");
  const cluster = new DirectoryCluster(dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods);
  await seen.until(() => seen.errors.length === 1);
  assert.equal(seen.synced, false);
  put(dir, "a.yaml", pod("a"));
  await seen.until(() => seen.synced);
  assert.deepEqual(seen.events, ["added a"]);
});

test("selectors turn changes into arrivals and departures", async () => {
  using s = scratch();
  const cluster = new DirectoryCluster(s.dir);
  using seen = new Seen<Pod>(cluster, RESOURCES.pods, {
    labelSelector: "app=web,tier!=db",
    fieldSelector: "spec.nodeName=n1",
  });
  await seen.until(() => seen.synced);
  const body = (app: string): string =>
    pod("p", `  labels:\n    app: ${app}\nspec:\n  nodeName: n1\n`);
  put(s.dir, "p.yaml", body("api"));
  put(s.dir, "p.yaml", body("web"));
  await seen.until(() => seen.events.length === 1);
  put(s.dir, "p.yaml", body("api"));
  await seen.until(() => seen.events.length === 2);
  assert.deepEqual(seen.events, ["added p", "deleted p"]);
});

test("apply creates one file per object and fills what an API server fills", async () => {
  using s = scratch();
  const cluster = new DirectoryCluster(s.dir);
  const object: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "shop", labels: { a: "1" } },
    spec: { clusterIP: "10.96.0.1", ports: [{ port: 80 }] },
  };
  const created = await cluster.apply(RESOURCES.services, object, AS);
  assert.deepEqual(readdirSync(join(s.dir, "services/shop")), ["web.yaml"]);
  assert.equal(created.metadata.generation, 1);
  assert.match(created.metadata.uid ?? "", /^[0-9a-f-]{36}$/);
  assert.match(created.metadata.creationTimestamp ?? "", /^\d{4}-.*Z$/);
  const labelled = await cluster.patch<Service>(
    RESOURCES.services,
    "shop",
    "web",
    { metadata: { labels: { a: null, b: "2" } } },
    AS,
  );
  assert.deepEqual(labelled.metadata.labels, { b: "2" });
  assert.equal(labelled.metadata.generation, 1);
  assert.ok(Number(labelled.metadata.resourceVersion) > Number(created.metadata.resourceVersion));
  const again = await cluster.apply(
    RESOURCES.services,
    { ...object, spec: { ports: [{ port: 81 }] } },
    AS,
  );
  assert.equal(again.metadata.generation, 2);
  assert.deepEqual(again.spec, { clusterIP: "10.96.0.1", ports: [{ port: 81 }] });
  const status = await cluster.apply<Service>(
    RESOURCES.services,
    {
      ...object,
      status: { conditions: [{ type: "istio.io/WaypointBound", status: "True" }] },
    },
    { ...AS, subresource: "status" },
  );
  assert.equal(status.metadata.generation, 2);
  assert.equal(status.status?.conditions?.[0]?.status, "True");
  const before = readFileSync(join(s.dir, "services/shop/web.yaml"), "utf8");
  await cluster.apply(RESOURCES.services, { ...object, spec: { ports: [{ port: 81 }] } }, AS);
  assert.equal(
    readFileSync(join(s.dir, "services/shop/web.yaml"), "utf8"),
    before,
    "no write without change",
  );
});

test("writers refuse what an API server would, and leave the file alone", async () => {
  using s = scratch();
  const cluster = new DirectoryCluster(s.dir);
  await assert.rejects(
    cluster.patch(RESOURCES.pods, "shop", "none", {}, AS),
    (e) => e instanceof KubeError && e.code === "NOT_FOUND",
  );
  put(s.dir, "pods/shop/web.yaml", pod("web"));
  await assert.rejects(
    cluster.patch(RESOURCES.pods, "shop", "web", { metadata: { labels: { a: 1 } } }, AS),
    (e) => e instanceof KubeError && e.code === "INVALID" && e.field === 'metadata.labels["a"]',
  );
  put(s.dir, "pods/shop/other.yaml", "kind: {");
  await assert.rejects(
    cluster.apply(
      RESOURCES.pods,
      { apiVersion: "v1", kind: "Pod", metadata: { name: "other", namespace: "shop" } },
      AS,
    ),
    (e) => e instanceof KubeError && e.code === "MALFORMED",
  );
  assert.equal(readFileSync(join(s.dir, "pods/shop/other.yaml"), "utf8"), "kind: {");
  const invalid = pod("web", "  labels: {version: 1}\n");
  put(s.dir, "pods/shop/web.yaml", invalid);
  const refused = (e: unknown): boolean => e instanceof KubeError && e.code === "INVALID";
  const patch = { metadata: { annotations: { a: "b" } } };
  await assert.rejects(cluster.patch(RESOURCES.pods, "shop", "web", patch, AS), refused);
  await assert.rejects(cluster.delete(RESOURCES.pods, "shop", "web"), refused);
  assert.equal(readFileSync(join(s.dir, "pods/shop/web.yaml"), "utf8"), invalid);
  const wrong = { apiVersion: "v1", kind: "Node", metadata: { name: "a", namespace: "shop" } };
  await assert.rejects(cluster.apply(RESOURCES.pods, wrong, AS), refused);
});

test("editing one document of a file leaves the others byte for byte", async () => {
  using s = scratch();
  const comment =
    "# keep me\napiVersion: v1\nkind: Pod   # odd spacing\nmetadata: {name: a, namespace: shop}\n";
  const file = put(s.dir, "all.yaml", `${comment}---\n${pod("b")}---\n${pod("c")}`);
  const cluster = new DirectoryCluster(s.dir);
  await cluster.patch(RESOURCES.pods, "shop", "b", { metadata: { annotations: { x: "y" } } }, AS);
  const text = readFileSync(file, "utf8");
  assert.ok(text.startsWith(`${comment}---\n`));
  assert.ok(text.endsWith(`---\n${pod("c")}`));
  await cluster.delete(RESOURCES.pods, "shop", "b");
  assert.equal(readFileSync(file, "utf8"), `${comment}---\n${pod("c")}`);
  await cluster.delete(RESOURCES.pods, "shop", "b");
  await cluster.delete(RESOURCES.pods, "shop", "a");
  await cluster.delete(RESOURCES.pods, "shop", "c");
  assert.deepEqual(readdirSync(s.dir), []);
});

test("JSON files and Lists are read and edited in place", async () => {
  using s = scratch();
  const item = (name: string): object => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "shop" },
  });
  put(
    s.dir,
    "l.json",
    JSON.stringify({ apiVersion: "v1", kind: "List", items: [item("a"), item("b")] }),
  );
  const cluster = new DirectoryCluster(s.dir);
  await cluster.patch(RESOURCES.pods, "shop", "b", { metadata: { labels: { l: "1" } } }, AS);
  await cluster.delete(RESOURCES.pods, "shop", "a");
  const left = JSON.parse(readFileSync(join(s.dir, "l.json"), "utf8")) as { items: KubeObject[] };
  assert.deepEqual(
    left.items.map((i) => [i.metadata.name, i.metadata.labels]),
    [["b", { l: "1" }]],
  );
});

test("a dead writer's lock is broken; a living one's is waited for, with a bound", async () => {
  using s = scratch();
  const dead = fork(join(import.meta.dirname, "errors.ts"), {
    execPath: process.execPath,
    silent: true,
  });
  await new Promise((resolve) => dead.on("exit", resolve));
  const namespace = (await import("node:fs")).readlinkSync("/proc/self/ns/pid");
  writeFileSync(join(s.dir, ".lock"), `${dead.pid} ${namespace} 1 1`);
  const cluster = new DirectoryCluster(s.dir, { lockTimeoutMs: 300 });
  const object: Pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "a", namespace: "shop" } };
  await cluster.apply(RESOURCES.pods, object, AS);
  writeFileSync(join(s.dir, ".lock"), `${process.pid} ${namespace} 1 1`);
  await assert.rejects(
    cluster.delete(RESOURCES.pods, "shop", "a"),
    (e) => e instanceof KubeError && e.code === "BUSY" && e.message.includes(String(process.pid)),
  );
  rmSync(join(s.dir, ".lock"));
  await cluster.delete(RESOURCES.pods, "shop", "a");
});

test("processes that patch the same object at once lose nothing", { timeout: 60_000 }, async () => {
  using s = scratch();
  const cluster = new DirectoryCluster(s.dir);
  await cluster.apply(
    RESOURCES.configMaps,
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "shop" }, data: {} },
    AS,
  );
  const script = join(s.dir, ".writer.mts");
  writeFileSync(
    script,
    `import { DirectoryCluster } from ${JSON.stringify(join(import.meta.dirname, "directory-cluster.ts"))};
import { RESOURCES } from ${JSON.stringify(join(import.meta.dirname, "objects.ts"))};
const [, , dir, id] = process.argv;
const cluster = new DirectoryCluster(dir);
for (let i = 0; i < 10; i++)
  await cluster.patch(RESOURCES.configMaps, "shop", "c", { data: { ["k" + id + "-" + i]: "v" } }, { fieldManager: "w" });
`,
  );
  const writers = ["1", "2", "3"].map(
    (id) =>
      new Promise((resolve) =>
        fork(script, [s.dir, id], { execPath: process.execPath }).on("exit", resolve),
      ),
  );
  assert.deepEqual(await Promise.all(writers), [0, 0, 0]);
  assert.equal(
    Object.keys((await cluster.get(RESOURCES.configMaps, "shop", "c"))?.data ?? {}).length,
    30,
  );
});
