// Status writes: what a person wrote stays byte for byte, and readers see one object all the same.
import assert from "node:assert/strict";
import {
  existsSync,
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
import { DirectoryCluster } from "./directory-cluster.ts";
import { KubeError } from "./errors.ts";
import { RESOURCES, type Pod, type Service, type ServiceEntry } from "./objects.ts";

const STATUS = { fieldManager: "test", subresource: "status" } as const;
const AS = { fieldManager: "test" };
const BOUND = { type: "istio.io/WaypointBound", status: "True" } as const;

function scratch(): { dir: string; cluster: DirectoryCluster } & Disposable {
  const dir = mkdtempSync(join(tmpdir(), "ambit-status-"));
  return {
    dir,
    cluster: new DirectoryCluster(dir),
    [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }),
  };
}

function put(dir: string, name: string, text: string): string {
  const file = join(dir, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.tmp`, text);
  renameSync(`${file}.tmp`, file);
  return file;
}

const web = (extra = ""): string =>
  `# our shop\napiVersion: v1\nkind: Service   # odd spacing\nmetadata: {name: web, namespace: shop}\n${extra}`;

const bind = (cluster: DirectoryCluster): Promise<Service> =>
  cluster.patch<Service>(
    RESOURCES.services,
    "shop",
    "web",
    { status: { conditions: [BOUND] } },
    STATUS,
  );

test("the status of a hand-written object is kept beside it, and reads show one object", async () => {
  using s = scratch();
  const text = `${web()}---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n`;
  const file = put(s.dir, "all.yaml", text);
  const written = await bind(s.cluster);
  assert.equal(readFileSync(file, "utf8"), text);
  assert.deepEqual(written.status, { conditions: [BOUND] });
  assert.match(written.metadata.resourceVersion ?? "", /^\d+$/);
  assert.equal(written.metadata.uid, undefined, "nothing else is made up");
  assert.deepEqual(readdirSync(join(s.dir, ".status/services/shop")), ["web.json"]);
  const other = new DirectoryCluster(s.dir);
  assert.deepEqual(await other.get(RESOURCES.services, "shop", "web"), written);
});

test("also of a file in the usual place, once a person has put a word in", async () => {
  using s = scratch();
  const file = put(s.dir, "services/shop/web.yaml", web());
  await bind(s.cluster);
  assert.equal(readFileSync(file, "utf8"), web());
});

test("a file that only programs wrote holds its own status", async () => {
  using s = scratch();
  const object: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "shop", labels: { on: "yes", n: "1" } },
    spec: { clusterIP: "10.96.0.1", ports: [{ port: 80 }] },
  };
  await s.cluster.apply(RESOURCES.services, object, AS);
  await bind(s.cluster);
  assert.match(
    readFileSync(join(s.dir, "services/shop/web.yaml"), "utf8"),
    /istio\.io\/WaypointBound/,
  );
  assert.equal(existsSync(join(s.dir, ".status")), false);
});

test("a person's own status fields stay theirs; a writer's field can be taken back", async () => {
  using s = scratch();
  const entry = (value: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\nstatus: {addresses: [{value: ${value}}]}\n`;
  const patch = (status: object): Promise<ServiceEntry> =>
    s.cluster.patch<ServiceEntry>(RESOURCES.serviceEntries, "shop", "e", { status }, STATUS);
  const file = put(s.dir, "e.yaml", entry("10.0.0.1"));
  await patch({ conditions: [BOUND] });
  put(s.dir, "e.yaml", entry("10.0.0.2"));
  const edited = await s.cluster.get(RESOURCES.serviceEntries, "shop", "e");
  assert.deepEqual(edited?.status, { addresses: [{ value: "10.0.0.2" }], conditions: [BOUND] });
  const cleared = await patch({ addresses: null, conditions: null });
  assert.equal(cleared.status?.addresses, undefined);
  assert.equal(readFileSync(file, "utf8"), entry("10.0.0.2"));
  await patch({ addresses: [{ value: "10.0.0.2" }] });
  assert.deepEqual(readdirSync(join(s.dir, ".status/serviceentries/shop")), [], "no difference");
});

test("a status patch keeps its labels and annotations, and nothing else of the object", async () => {
  using s = scratch();
  const pod: Pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "shop" } };
  await s.cluster.apply(RESOURCES.pods, pod, AS);
  const patch = {
    metadata: { annotations: { "ambient.istio.io/redirection": "enabled" }, name: "other" },
    spec: { nodeName: "elsewhere" },
    status: { phase: "Running" },
  };
  const patched = await s.cluster.patch<Pod>(RESOURCES.pods, "shop", "p", patch, STATUS);
  assert.deepEqual(patched.metadata.annotations, patch.metadata.annotations);
  assert.equal(patched.metadata.name, "p");
  assert.equal(patched.metadata.generation, 1);
  assert.equal(patched.spec, undefined);
  assert.deepEqual(patched.status, { phase: "Running" });
  const only = { metadata: { annotations: { "ambient.istio.io/redirection": null } } };
  const again = await s.cluster.patch<Pod>(RESOURCES.pods, "shop", "p", only, STATUS);
  assert.deepEqual(again.metadata.annotations, {});
  assert.deepEqual(again.status, { phase: "Running" });
  const applied = await s.cluster.apply<Pod>(
    RESOURCES.pods,
    { ...pod, metadata: { ...pod.metadata, annotations: { a: "b" } }, status: { phase: "Failed" } },
    STATUS,
  );
  assert.deepEqual(applied.metadata.annotations, { a: "b" });
  assert.deepEqual(applied.status, { phase: "Failed" });
});

test("watches see each status once, from this process and from others", async () => {
  using s = scratch();
  put(s.dir, "all.yaml", web());
  const end = new AbortController();
  const seen: (Service | null)[] = [];
  let synced = false;
  const watching = s.cluster.watch(
    RESOURCES.services,
    {
      onEvents: (events) =>
        events.forEach((e) => seen.push(e.type === "deleted" ? null : e.object)),
      onSynced: () => (synced = true),
    },
    { signal: end.signal },
  );
  const until = async (condition: () => boolean): Promise<void> => {
    for (const stop = Date.now() + 3_000; !condition(); await sleep(2))
      assert.ok(Date.now() < stop, `not within 3 s: ${JSON.stringify(seen)}`);
  };
  await until(() => synced);
  await bind(s.cluster);
  await bind(s.cluster);
  assert.equal(seen.length, 2, "the second write says nothing new");
  await new DirectoryCluster(s.dir).patch(
    RESOURCES.services,
    "shop",
    "web",
    { status: { conditions: [] } },
    STATUS,
  );
  await until(() => seen.length === 3);
  assert.deepEqual(seen[2]?.status, { conditions: [] });
  rmSync(join(s.dir, ".status"), { recursive: true });
  await until(() => seen.length === 4);
  assert.equal(seen[3]?.status, undefined);
  await sleep(30);
  assert.equal(seen.length, 4);
  end.abort();
  await watching;
});

test("a write of the object itself leaves its status where it is", async () => {
  using s = scratch();
  const file = put(s.dir, "all.yaml", web());
  await bind(s.cluster);
  const labelled = await s.cluster.patch<Service>(
    RESOURCES.services,
    "shop",
    "web",
    { metadata: { labels: { a: "b" } } },
    AS,
  );
  assert.deepEqual(labelled.status, { conditions: [BOUND] });
  assert.doesNotMatch(readFileSync(file, "utf8"), /status/);
  assert.match(readFileSync(join(s.dir, ".status/services/shop/web.json"), "utf8"), /"uid"/);
});

test("a status ends with its object, and another object of the name does not inherit it", async () => {
  using s = scratch();
  put(s.dir, "all.yaml", web());
  await bind(s.cluster);
  await s.cluster.delete(RESOURCES.services, "shop", "web");
  assert.deepEqual(readdirSync(join(s.dir, ".status/services/shop")), []);
  put(s.dir, "all.yaml", web("").replace("name: web", "name: web, uid: one"));
  await bind(s.cluster);
  put(s.dir, "all.yaml", web("").replace("name: web", "name: web, uid: two"));
  assert.equal((await s.cluster.get(RESOURCES.services, "shop", "web"))?.status, undefined);
  rmSync(join(s.dir, "all.yaml"));
  const made = await s.cluster.apply<Service>(
    RESOURCES.services,
    { apiVersion: "v1", kind: "Service", metadata: { name: "web", namespace: "shop" } },
    AS,
  );
  assert.equal(made.status, undefined);
  assert.deepEqual(readdirSync(join(s.dir, ".status/services/shop")), []);
});

test("a status whose object was taken away by hand goes after a while, not at a broken edit", async () => {
  using s = scratch();
  const clock = { ms: Date.now() };
  const cluster = new DirectoryCluster(s.dir, { now: () => clock.ms });
  put(s.dir, "all.yaml", web());
  await bind(cluster);
  const status = join(s.dir, ".status/services/shop/web.json");
  const write = async (afterMs: number): Promise<void> => {
    clock.ms += afterMs;
    const metadata = { name: `n${clock.ms}` };
    await cluster.apply(RESOURCES.nodes, { apiVersion: "v1", kind: "Node", metadata }, AS);
  };
  rmSync(join(s.dir, "all.yaml"));
  put(s.dir, "other.yaml", "kind: {");
  await write(61_000);
  await write(61_000);
  assert.ok(existsSync(status), "another file may yet define it");
  rmSync(join(s.dir, "other.yaml"));
  await write(61_000);
  assert.ok(existsSync(status), "an editor may be saving");
  await write(61_000);
  assert.equal(existsSync(status), false);
});

test("a writer that read an older state is told", async () => {
  using s = scratch();
  put(s.dir, "all.yaml", web());
  const { metadata } = await bind(s.cluster);
  const patch = (version = ""): Promise<Service> =>
    s.cluster.patch<Service>(
      RESOURCES.services,
      "shop",
      "web",
      { metadata: { resourceVersion: version }, status: { conditions: [] } },
      STATUS,
    );
  await patch(metadata.resourceVersion);
  await assert.rejects(
    patch(metadata.resourceVersion),
    (e) => e instanceof KubeError && e.code === "CONFLICT",
  );
  await patch();
});

test("a damaged status file is reported and changes nothing", async () => {
  using s = scratch();
  put(s.dir, "all.yaml", web());
  await bind(s.cluster);
  const cluster = new DirectoryCluster(s.dir);
  const end = new AbortController();
  const errors: Error[] = [];
  let synced = false;
  const watching = cluster.watch(
    RESOURCES.services,
    { onEvents: () => {}, onSynced: () => (synced = true), onError: (e) => errors.push(e) },
    { signal: end.signal },
  );
  while (!synced) await sleep(2);
  put(s.dir, ".status/services/shop/web.json", '{"status":');
  while (errors.length === 0) await sleep(2);
  assert.match(errors[0]?.message ?? "", /\.status\/services\/shop\/web\.json/);
  const found = await cluster.get(RESOURCES.services, "shop", "web");
  assert.deepEqual(found?.status, { conditions: [BOUND] });
  end.abort();
  await watching;
});
