// Leader election on a real API server: Leases, and the ConfigMap annotation of Istio's older locks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import { type ElectionOptions, electLeader } from "#lib/kube/api-server/leader-election.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { ControlPlane } from "../control-plane.ts";

const log = createLogger({ scope: "test", level: "silent", format: "json" });
const timing = { durationMs: 2_000, renewDeadlineMs: 1_000, retryMs: 200 };
const ANNOTATION = "control-plane.alpha.kubernetes.io/leader";
const namespace = "default";
let plane: ControlPlane;
let api: ApiServer;
let cluster: ApiServerCluster;

before(async () => {
  plane = await ControlPlane.start();
  api = await openApiServer({ kubeconfig: plane.kubeconfig });
  cluster = new ApiServerCluster(api, { log });
});
after(async () => {
  api[Symbol.dispose]();
  await plane[Symbol.asyncDispose]();
});

/** A candidate with a connection of its own, so that a test can kill it: nothing is released then. */
class Candidate implements AsyncDisposable {
  isLeading = false;
  leader = "";
  terms = 0;
  readonly #stop = new AbortController();
  readonly #api: ApiServer;
  readonly #done: Promise<void>;

  constructor(own: ApiServer, identity: string, options: Partial<ElectionOptions>) {
    this.#api = own;
    this.#done = electLeader({
      cluster: new ApiServerCluster(own, { log }),
      namespace,
      name: "lock",
      identity,
      timing,
      log,
      signal: this.#stop.signal,
      onLeader: (leader) => {
        this.leader = leader;
      },
      onLead: async (signal) => {
        this.isLeading = true;
        this.terms++;
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
        this.isLeading = false;
      },
      ...options,
    });
  }

  static async stand(identity: string, options: Partial<ElectionOptions>): Promise<Candidate> {
    return new Candidate(await openApiServer({ kubeconfig: plane.kubeconfig }), identity, options);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** No request gets through any more. */
  kill(): void {
    this.#api[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.kill();
  }
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(10);
}

for (const lock of ["lease", "configMap"] as const) {
  test(`${lock}: one of two leads, and the other when it goes or dies`, {
    timeout: 15_000,
  }, async () => {
    const name = `both-${lock.toLowerCase()}`;
    await using a = await Candidate.stand("a", { lock, name });
    await until(() => a.isLeading);
    await using b = await Candidate.stand("b", { lock, name });
    await until(() => b.leader === "a");
    await a.stop();
    assert.equal(a.isLeading, false);
    const released = Date.now();
    await until(() => b.isLeading);
    assert.ok(Date.now() - released < timing.durationMs, "a released lock is taken at once");
    await using c = await Candidate.stand("c", { lock, name });
    await until(() => c.leader === "b");
    b.kill();
    const killed = Date.now();
    await until(() => !b.isLeading);
    assert.ok(Date.now() - killed < timing.renewDeadlineMs + 2 * timing.retryMs + 500);
    assert.equal(c.isLeading, false, "the dead leader stopped before its lock ran out");
    await until(() => c.isLeading);
  });
}

test("a deleted lease is written again by its holder, or lost to another", {
  timeout: 15_000,
}, async () => {
  await using a = await Candidate.stand("a", { name: "deleted" });
  await until(() => a.isLeading);
  const { uid } = (await cluster.get(RESOURCES.leases, namespace, "deleted"))?.metadata ?? {};
  await cluster.delete(RESOURCES.leases, namespace, "deleted");
  await sleep(3 * timing.retryMs);
  const anew = await cluster.get(RESOURCES.leases, namespace, "deleted");
  assert.notEqual(anew?.metadata.uid, uid);
  assert.equal(anew?.spec?.holderIdentity, "a");
  assert.equal(a.terms, 1, "its work went on");
  await cluster.patch(
    RESOURCES.leases,
    namespace,
    "deleted",
    { spec: { holderIdentity: "thief", leaseDurationSeconds: 60 } },
    { fieldManager: "thief" },
  );
  await until(() => !a.isLeading);
  await until(() => a.leader === "thief");
});

test("Istio's record in a ConfigMap keeps us out, and ours keeps it out", {
  timeout: 15_000,
}, async () => {
  const name = "istio-namespace-controller-election";
  const now = new Date().toISOString().replace(/\.\d+Z/, "Z");
  const theirs = {
    holderIdentity: "istiod-6d8f-abcde",
    holderKey: "canary",
    leaseDurationSeconds: 60,
    acquireTime: now,
    renewTime: now,
    leaderTransitions: 3,
  };
  const metadata = { name, namespace, annotations: { [ANNOTATION]: JSON.stringify(theirs) } };
  const lock = { apiVersion: "v1", kind: "ConfigMap", metadata };
  await cluster.create(RESOURCES.configMaps, lock, { fieldManager: "istiod" });
  await using polite = await Candidate.stand("polite", { lock: "configMap", name });
  await until(() => polite.leader === theirs.holderIdentity);
  await sleep(4 * timing.retryMs);
  assert.equal(polite.isLeading, false);
  await using ours = await Candidate.stand("ours", {
    lock: "configMap",
    name,
    holderKey: "default",
    steals: (key) => key !== "default",
  });
  await until(() => ours.isLeading);
  const map = await cluster.get(RESOURCES.configMaps, namespace, name);
  const record = JSON.parse(map?.metadata.annotations?.[ANNOTATION] ?? "{}") as typeof theirs;
  assert.equal(record.holderIdentity, "ours");
  assert.equal(record.holderKey, "default");
  assert.equal(record.leaderTransitions, 4);
  assert.match(record.renewTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

test("work that ends or fails gives the lock back", { timeout: 15_000 }, async () => {
  let calls = 0;
  await using a = await Candidate.stand("a", {
    name: "short",
    onLead: () => {
      calls++;
      return Promise.reject(new Error("cannot work"));
    },
  });
  await until(() => calls === 2);
  await a.stop();
  const lease = await cluster.get(RESOURCES.leases, namespace, "short");
  assert.equal(lease?.spec?.holderIdentity, undefined);
});
