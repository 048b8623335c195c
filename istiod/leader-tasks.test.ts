// What the leader writes, over a real manifest directory with a watcher and a translator in between.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#lib/base/clock.ts";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { type Condition, RESOURCES } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { readConfig } from "./config.ts";
import { LeaderTasks } from "./leader-tasks.ts";
import { Metrics } from "./metrics.ts";
import { DEFAULT_CONFIG } from "./translate/config.ts";
import type { MeshDelta } from "./translate/mesh.ts";
import { gateway, istio, namespace, service } from "./translate/test-mesh.ts";
import { MeshTranslator } from "./translate/translator.ts";
import { MalformedObjects } from "./watch/malformed-objects.ts";
import { MeshWatcher } from "./watch/mesh-watcher.ts";

const TIMEOUT = { timeout: 15_000 };
type Shown = KubeObject & {
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly addresses?: readonly { readonly value: string; readonly host?: string }[];
  };
};

class Rig implements AsyncDisposable {
  readonly dir: string;
  readonly cluster: DirectoryCluster;
  readonly translator = new MeshTranslator(DEFAULT_CONFIG);
  readonly deltas: MeshDelta[] = [];
  readonly metrics = new Metrics("test");
  readonly watcher: MeshWatcher;
  readonly tasks: LeaderTasks;
  readonly #end = new AbortController();
  readonly #running: Promise<void>[] = [];

  constructor(manifest: string, env: Record<string, string> = {}, dir: string | null = null) {
    this.dir = dir ?? mkdtempSync(join(tmpdir(), "ambit-leader-"));
    this.cluster = new DirectoryCluster(this.dir);
    this.put("all.yaml", manifest);
    const log = createLogger({ scope: "test", level: "silent", format: "json" });
    const { cluster, translator, metrics } = this;
    const config = readConfig({ MANIFEST_DIR: this.dir, JWKS_FILE: "/j", ...env });
    const clock = systemClock;
    const api = null;
    const rootPem = (): null => null;
    const malformed = new MalformedObjects(() => {});
    this.tasks = new LeaderTasks({
      config,
      cluster,
      api,
      translator,
      malformed,
      rootPem,
      metrics,
      log,
      clock,
    });
    this.watcher = new MeshWatcher({
      cluster,
      translator,
      log,
      onDelta: (delta) => this.deltas.push(delta),
      onUpdated: () => this.tasks.updated(),
    });
    this.#running.push(this.watcher.run(this.#end.signal));
  }

  async lead(): Promise<AbortController> {
    await this.until(() => this.watcher.isSynced);
    const term = new AbortController();
    this.#running.push(this.tasks.lead(AbortSignal.any([term.signal, this.#end.signal])));
    return term;
  }

  put(name: string, text: string): void {
    mkdirSync(this.dir, { recursive: true });
    writeFileSync(join(this.dir, name), text);
  }

  async object(resource: Resource, name: string): Promise<Shown | null> {
    return await this.cluster.get<Shown>(resource as Resource<Shown>, "shop", name);
  }

  async conditions(resource: Resource, name: string): Promise<string[]> {
    const object = await this.object(resource, name);
    return (object?.status?.conditions ?? []).map((c) => `${c.type}=${c.status}/${c.reason}`);
  }

  async addresses(name: string): Promise<string[]> {
    const object = await this.object(RESOURCES.serviceEntries, name);
    return (object?.status?.addresses ?? []).map((a) => `${a.host} ${a.value}`);
  }

  async isLeading(lock: string): Promise<number | undefined> {
    const { values } = await this.metrics.leader.get();
    return values.find(({ labels }) => labels.lock === lock)?.value;
  }

  async writes(): Promise<number> {
    const { values } = await this.metrics.statusWrites.get();
    return values.find((v) => v.labels.result === "written")?.value ?? 0;
  }

  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 5_000; !(await condition()); await sleep(3))
      assert.ok(Date.now() < end, "not within 5 s");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#running);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const USE = "labels: {istio.io/use-waypoint: wp}";
const WEB = service("web", "clusterIP: 10.1.0.1, ports: [{port: 80}]", USE);
const POLICY = istio("AuthorizationPolicy", "p", "action: ALLOW, rules: [{}]");
const HEAD = "# written by a person\n";
const ALL = HEAD + namespace("shop") + WEB + POLICY;
const web = RESOURCES.services;
const policies = RESOURCES.authorizationPolicies;

test(
  "conditions are written beside what a person wrote, follow the state, and settle",
  TIMEOUT,
  async () => {
    await using rig = new Rig(ALL);
    await rig.lead();
    await rig.until(async () => (await rig.conditions(policies, "p")).length > 0);
    assert.deepEqual(await rig.conditions(web, "web"), [
      "istio.io/WaypointBound=False/WaypointIsNotReady",
    ]);
    assert.deepEqual(await rig.conditions(policies, "p"), ["ZtunnelAccepted=True/Accepted"]);
    assert.equal(readFileSync(join(rig.dir, "all.yaml"), "utf8"), ALL);
    const first = (await rig.object(web, "web"))?.status?.conditions?.[0];
    assert.match(first?.lastTransitionTime ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.equal(first?.observedGeneration, undefined, "nobody counts the changes of this file");

    rig.put("gateway.yaml", gateway("wp"));
    await rig.until(async () => (await rig.conditions(web, "web"))[0]?.includes("True") === true);
    await sleep(60);
    assert.equal(await rig.writes(), 3, "each change once, and own writes cause none");
    assert.equal(rig.deltas.length, 2, "and no push");

    rig.put("all.yaml", ALL.replace(`, ${USE}`, ""));
    await rig.until(async () => (await rig.conditions(web, "web")).length === 0);
  },
);

test("generations are observed where they are counted", TIMEOUT, async () => {
  await using rig = new Rig(namespace("shop"));
  await rig.lead();
  const apply = (rules: readonly object[]): Promise<KubeObject> =>
    rig.cluster.apply(
      policies,
      {
        apiVersion: "security.istio.io/v1",
        kind: "AuthorizationPolicy",
        metadata: { name: "p", namespace: "shop" },
        spec: { rules },
      },
      { fieldManager: "test" },
    );
  const observed = async (): Promise<number | undefined> =>
    (await rig.object(policies, "p"))?.status?.conditions?.[0]?.observedGeneration;
  await apply([{}]);
  await rig.until(async () => (await observed()) === 1);
  const before = (await rig.object(policies, "p"))?.status?.conditions?.[0]?.lastTransitionTime;
  await apply([{ from: [{ source: { namespaces: ["a"] } }] }]);
  await rig.until(async () => (await observed()) === 2);
  const after = (await rig.object(policies, "p"))?.status?.conditions?.[0]?.lastTransitionTime;
  assert.equal(after, before, "the status did not change");
});

test(
  "a policy that turns from workloads to a waypoint loses the condition of the former",
  TIMEOUT,
  async () => {
    await using rig = new Rig(ALL);
    await rig.lead();
    await rig.until(async () => (await rig.conditions(policies, "p")).length > 0);
    const foreign = { type: "example.org/Audited", status: "True" };
    const status = {
      conditions: [foreign, ...((await rig.object(policies, "p"))?.status?.conditions ?? [])],
    };
    await rig.cluster.patch(
      policies,
      "shop",
      "p",
      { status },
      { fieldManager: "x", subresource: "status" },
    );
    const target = istio("AuthorizationPolicy", "p", "targetRefs: [{kind: Service, name: web}]");
    rig.put("all.yaml", ALL.replace(POLICY, target));
    await rig.until(
      async () => (await rig.conditions(policies, "p"))[1]?.startsWith("Way") === true,
    );
    assert.deepEqual(await rig.conditions(policies, "p"), [
      "example.org/Audited=True/undefined",
      "WaypointAccepted=False/AncestorNotBound",
    ]);
  },
);

test(
  "who does not lead writes nothing; a new leader brings everything up to date",
  TIMEOUT,
  async () => {
    await using rig = new Rig(
      ALL + istio("ServiceEntry", "e", "hosts: [e.example], resolution: DNS"),
    );
    await rig.until(() => rig.watcher.isSynced);
    const term = await rig.lead();
    await rig.until(async () => (await rig.writes()) === 2);
    assert.equal(await rig.isLeading("istio-status-leader"), 1);
    term.abort();
    await rig.until(async () => (await rig.isLeading("istio-status-leader")) === 0);
    rig.put("gateway.yaml", gateway("wp"));
    await rig.until(() =>
      rig.deltas.some((d) => d.services.includes("shop/web.shop.svc.cluster.local")),
    );
    await sleep(60);
    assert.match((await rig.conditions(web, "web"))[0] ?? "", /False/);
    await rig.lead();
    await rig.until(async () => (await rig.conditions(web, "web"))[0]?.includes("True") === true);
  },
);

test("a namespace that is no longer seen keeps what was written in it", TIMEOUT, async () => {
  await using rig = new Rig(ALL);
  await rig.lead();
  await rig.until(async () => (await rig.writes()) === 2);
  rig.watcher.reconfigure({ ...DEFAULT_CONFIG, discoverySelectors: [{ matchLabels: { a: "b" } }] });
  rig.put("gateway.yaml", gateway("wp"));
  await sleep(60);
  assert.match((await rig.conditions(web, "web"))[0] ?? "", /False/);
});

test("nothing is written when both are switched off", TIMEOUT, async () => {
  const entry = istio("ServiceEntry", "e", "hosts: [e.example], resolution: DNS");
  await using rig = new Rig(ALL + entry, {
    AMBIENT_ENABLE_STATUS: "false",
    PILOT_ENABLE_IP_AUTOALLOCATE: "false",
  });
  await rig.lead();
  await sleep(60);
  assert.deepEqual(await rig.conditions(policies, "p"), []);
  assert.deepEqual(await rig.addresses("e"), []);
});

test(
  "entries without addresses get some, which reach the tables and survive a restart",
  TIMEOUT,
  async () => {
    const entry = (name: string): string =>
      istio(
        "ServiceEntry",
        name,
        `hosts: [${name}.example], resolution: DNS, ports: [{number: 80}]`,
      );
    const manifest = HEAD + entry("a") + entry("b");
    await using rig = new Rig(manifest);
    const term = await rig.lead();
    await rig.until(async () => (await rig.addresses("b")).length === 2);
    assert.deepEqual(await rig.addresses("a"), ["a.example 240.240.0.1", "a.example 2001:2::1"]);
    assert.deepEqual(await rig.addresses("b"), ["b.example 240.240.0.2", "b.example 2001:2::2"]);
    await rig.until(() => rig.translator.lookup("/240.240.0.2").length > 0);
    assert.deepEqual(rig.translator.lookup("/240.240.0.2")[0], "shop/b.example");
    assert.equal(readFileSync(join(rig.dir, "all.yaml"), "utf8"), manifest);

    term.abort();
    await rig.lead();
    rig.put("more.yaml", entry("c"));
    await rig.until(async () => (await rig.addresses("c")).length === 2);
    assert.deepEqual(await rig.addresses("c"), ["c.example 240.240.0.3", "c.example 2001:2::3"]);
    assert.deepEqual(await rig.addresses("b"), ["b.example 240.240.0.2", "b.example 2001:2::2"]);
    rig.put("more.yaml", istio("ServiceEntry", "c", "hosts: [c.d], addresses: [240.240.0.1]"));
    await rig.until(async () => (await rig.addresses("a"))[0] === "a.example 240.240.0.4");
    assert.deepEqual(await rig.addresses("c"), [], "own addresses: the allocated ones go");
  },
);

test("a thousand entries are served within seconds", TIMEOUT, async () => {
  const entries = Array.from({ length: 1_000 }, (_, i) =>
    istio("ServiceEntry", `e${i}`, `hosts: [e${i}.example], resolution: STATIC`),
  );
  await using rig = new Rig(entries.join(""));
  await rig.lead();
  await rig.until(async () => {
    const all = await rig.cluster.list(RESOURCES.serviceEntries);
    return all.every((e) => e.status?.addresses?.length === 2);
  });
});

test("two that lead over one directory agree, and come to rest", TIMEOUT, async () => {
  const entries = Array.from({ length: 50 }, (_, i) =>
    istio("ServiceEntry", `e${i}`, `hosts: [e${i}.example], resolution: STATIC`, { meta: USE }),
  );
  await using one = new Rig(entries.join(""));
  await using two = new Rig(entries.join(""), {}, one.dir);
  await Promise.all([one.lead(), two.lead()]);
  const all = async (rig: Rig): Promise<readonly Shown[]> =>
    await rig.cluster.list<Shown>(RESOURCES.serviceEntries);
  const isDone = (e: Shown): boolean =>
    e.status?.addresses?.length === 2 && e.status.conditions?.length === 1;
  await one.until(async () => (await all(one)).every(isDone));
  const before = await all(one);
  await sleep(100);
  assert.deepEqual(await all(one), before, "nobody writes any more");
  assert.deepEqual(new Set(await all(two)), new Set(before));
  const values = before.flatMap((e) => e.status?.addresses?.map((a) => a.value) ?? []);
  assert.equal(new Set(values).size, 100, "no address twice");
});
