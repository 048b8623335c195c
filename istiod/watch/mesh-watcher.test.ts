// The watcher between a real manifest directory and a real translator.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { createLogger } from "#lib/obs/log.ts";
import { DEFAULT_CONFIG } from "../translate/config.ts";
import type { MeshDelta } from "../translate/mesh.ts";
import { istio, pod, service } from "../translate/test-mesh.ts";
import { MeshTranslator } from "../translate/translator.ts";
import { MeshWatcher } from "./mesh-watcher.ts";

class Rig implements AsyncDisposable {
  readonly root = mkdtempSync(join(tmpdir(), "ambit-watch-"));
  readonly dir = join(this.root, "manifests");
  readonly deltas: MeshDelta[] = [];
  readonly errors: Error[] = [];
  readonly lines: string[] = [];
  readonly watcher: MeshWatcher;
  synced = 0;
  readonly #end = new AbortController();
  #running: Promise<void> | null = null;

  constructor() {
    const destination = { write: (line: string) => void this.lines.push(line) };
    this.watcher = new MeshWatcher({
      cluster: new DirectoryCluster(this.dir),
      translator: new MeshTranslator(DEFAULT_CONFIG),
      log: createLogger({ scope: "test", level: "debug", format: "json", destination }),
      onDelta: (delta) => this.deltas.push(delta),
      onSynced: () => this.synced++,
      onError: (error) => this.errors.push(error),
    });
  }

  start(): void {
    this.#running = this.watcher.run(this.#end.signal);
  }

  put(name: string, text: string): void {
    mkdirSync(this.dir, { recursive: true });
    writeFileSync(join(this.dir, name), text);
  }

  async until(condition: () => boolean): Promise<void> {
    for (const end = Date.now() + 3_000; !condition(); await sleep(2))
      assert.ok(Date.now() < end, "not within 3 s");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#running;
    rmSync(this.root, { recursive: true });
  }
}

const SERVICE = service("web", "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]");

test("the first state is one update, and nothing is served before it is complete", async () => {
  await using rig = new Rig();
  rig.put("all.yaml", SERVICE + pod("a") + istio("AuthorizationPolicy", "p", ""));
  rig.start();
  assert.equal(rig.watcher.isSynced, false);
  assert.ok(rig.watcher.awaited.includes("pods"));
  await rig.until(() => rig.synced === 1);
  assert.equal(rig.deltas.length, 1);
  assert.equal(rig.deltas[0]?.addresses.updated.length, 2);
  assert.deepEqual(rig.watcher.awaited, []);
});

test("a change of several kinds in one file is one update", async () => {
  await using rig = new Rig();
  rig.put("all.yaml", pod("a"));
  rig.start();
  await rig.until(() => rig.synced === 1);
  rig.put("all.yaml", SERVICE + pod("a") + pod("b", { ip: "10.0.0.2" }));
  await rig.until(() => rig.deltas.length === 2);
  assert.deepEqual(rig.deltas[1]?.addresses.updated, [
    "Kubernetes//Pod/shop/a",
    "Kubernetes//Pod/shop/b",
    "shop/web.shop.svc.cluster.local",
  ]);
});

test("a policy for waypoints alone is an update too", async () => {
  await using rig = new Rig();
  rig.put("a.yaml", SERVICE);
  rig.start();
  await rig.until(() => rig.synced === 1);
  const refs = "targetRefs: [{group: '', kind: Service, name: web}]";
  rig.put("p.yaml", istio("AuthorizationPolicy", "p", refs));
  await rig.until(() => rig.deltas.at(-1)?.waypointPolicies.updated[0] === "shop/p");
});

test("a broken manifest is logged and counted once, and takes nothing away", async () => {
  await using rig = new Rig();
  rig.put("web.yaml", SERVICE);
  rig.start();
  await rig.until(() => rig.synced === 1);
  rig.put(
    "web.yaml",
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: x\n",
  );
  await rig.until(() => rig.errors.length > 0);
  await sleep(30);
  assert.equal(rig.errors.length, 1, "not once per watch");
  assert.match(rig.errors[0]?.message ?? "", /web\.yaml:7: spec\.ports\[0\]\.port/);
  assert.equal(rig.lines.filter((line) => line.includes("web.yaml:7")).length, 1);
  assert.equal(rig.deltas.length, 1);
});

test("without a readable directory there is no state, rather than an empty one", async () => {
  await using rig = new Rig();
  rig.start();
  await rig.until(() => rig.errors.length > 0);
  assert.equal(rig.watcher.isSynced, false);
  rig.put("web.yaml", SERVICE);
  await rig.until(() => rig.synced === 1);
  assert.equal(rig.deltas.length, 1);
});
