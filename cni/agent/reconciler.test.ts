// The reconcile loop on a stage without a kernel: what it does, in which order, and what it does when
// a step fails.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { parseIp, type Ip } from "#lib/net/ip.ts";
import type { Namespace, Pod } from "#lib/kube/objects.ts";
import { readConfig } from "./config.ts";
import { createMetrics } from "./metrics.ts";
import { REDIRECTION } from "./pod-knobs.ts";
import { PodNetns } from "./pod-netns.ts";
import { Reconciler } from "./reconciler.ts";
import { until } from "./test-ztunnel.ts";
import type { ZdsOutcome } from "./zds-connection.ts";

const IP = parseIp("10.0.0.2");
const CONFIG = readConfig({ NODE_NAME: "a", MANIFEST_DIR: "/m" });

/** Plays cluster, kernel and ztunnel, and writes down what is asked of them. */
class Stage implements AsyncDisposable {
  readonly steps: string[] = [];
  readonly pods = new Map<string, Pod>();
  labels: Record<string, string> = { "istio.io/dataplane-mode": "ambient" };
  inside = new Set<string>();
  acked = new Set<string>();
  hasProxy = true;
  answer: ZdsOutcome = { kind: "ack" };
  failing = new Set<string>();
  findable = true;
  readonly reconciler: Reconciler;
  /** Called before a step is done; may wait. */
  gate: (step: string) => Promise<void> = () => Promise.resolve();

  constructor(retry = { startMs: 5, maxMs: 20 }, width = 8) {
    this.reconciler = new Reconciler({
      source: {
        pod: (uid) => this.pods.get(uid) ?? null,
        pods: () => [...this.pods.values()],
        namespace: () => this.#namespace(),
      },
      enrolment: CONFIG,
      defaults: CONFIG,
      rules: {
        apply: async (netns) => {
          await this.#step("apply");
          this.inside.add(netns.id);
        },
        faults: async (netns) => {
          await this.#step("look");
          return this.inside.has(netns.id) ? [] : ["all rules are missing"];
        },
        has: async (netns) => {
          await this.#step("has");
          return this.inside.has(netns.id);
        },
        remove: async (netns) => {
          await this.#step("remove");
          this.inside.delete(netns.id);
        },
      },
      probes: {
        put: ({ ip }) => this.#step(`put ${ip}`),
        drop: ({ ip }) => this.#step(`drop ${ip}`),
      },
      proxies: {
        hasAcked: (uid) => this.acked.has(uid),
        add: async (pod) => {
          await this.#step("add");
          if (!this.hasProxy) return null;
          if (this.answer.kind === "ack") this.acked.add(pod.uid);
          return this.answer;
        },
        del: async (uid) => {
          await this.#step("del");
          this.acked.delete(uid);
        },
        untilConnected: () => Promise.resolve(),
      },
      finder: {
        find: async () => {
          await this.#step("find");
          return this.findable ? openOwn() : null;
        },
      },
      annotate: async (pod, value) => {
        await this.#step(`annotate ${value}`);
        this.set(pod.metadata.uid ?? "", { annotation: value });
      },
      forget: () => this.steps.push("forget"),
      log: pino({ level: "silent" }),
      metrics: createMetrics(() => 0),
      retry,
      width,
    });
  }

  /** Puts or changes a pod, as a watch would. */
  set(
    uid: string,
    o: { ips?: readonly Ip[]; annotation?: string | null; phase?: string } = {},
  ): void {
    const old = this.pods.get(uid);
    const annotation =
      o.annotation === undefined
        ? (old?.metadata.annotations?.[REDIRECTION] ?? null)
        : o.annotation;
    this.pods.set(uid, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: `p-${uid}`,
        namespace: "shop",
        uid,
        ...(annotation === null ? {} : { annotations: { [REDIRECTION]: annotation } }),
      },
      spec: { containers: [] },
      status: {
        phase: o.phase ?? "Running",
        podIPs: (o.ips ?? old?.status?.podIPs?.map((e) => parseIp(e.ip)) ?? []).map((ip) => ({
          ip,
        })),
      },
    });
  }

  annotation(uid: string): string | undefined {
    return this.pods.get(uid)?.metadata.annotations?.[REDIRECTION];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reconciler[Symbol.asyncDispose]();
  }

  #namespace(): Namespace {
    return { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: this.labels } };
  }

  async #step(name: string): Promise<void> {
    this.steps.push(name);
    await this.gate(name);
    if (this.failing.has(name)) throw new Error(`${name} fails`);
  }
}

function openOwn(): PodNetns {
  return PodNetns.open("/proc/self/ns/net");
}

test("an ADD: rules and probe set, then the ztunnel, the annotation last", async () => {
  await using stage = new Stage();
  stage.set("u");
  stage.reconciler.takeSandbox("u", openOwn(), [IP]);
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, ["apply", `put ${IP}`, "add", "annotate enabled"]);
  await stage.reconciler.converge("u");
  assert.equal(stage.steps.length, 4, "again changes nothing");
});

test("late enrolment finds the namespace and looks inside before writing", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, ["find", "look", `put ${IP}`, "apply", "add", "annotate enabled"]);
});

test("a pod without address and sandbox waits for its event", async () => {
  await using stage = new Stage();
  stage.set("u");
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, []);
});

test("leaving: probe set, rules, ztunnel, annotation", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  stage.steps.length = 0;
  stage.labels = {};
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, [`drop ${IP}`, "remove", "del", "annotate null"]);
  await stage.reconciler.converge("u");
  assert.equal(stage.steps.length, 4);
});

test("a pod that never was in the mesh is looked into once and left alone", async () => {
  await using stage = new Stage();
  stage.labels = {};
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, ["find", "has"]);
});

test("rules of an earlier agent in a pod outside the mesh are taken out", async () => {
  await using stage = new Stage();
  stage.labels = {};
  stage.set("u", { ips: [IP] });
  using own = openOwn();
  stage.inside.add(own.id);
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, ["find", "has", "remove", "del"]);
});

test("an annotated pod whose namespace is not found stays as it is, and is tried again", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP], annotation: "enabled" });
  stage.labels = {};
  stage.findable = false;
  await assert.rejects(stage.reconciler.converge("u"), { code: "NETNS_NOT_FOUND" });
  assert.equal(stage.annotation("u"), "enabled");
  stage.findable = true;
  await until("the retry", () => stage.annotation("u") === undefined || undefined);
  assert.equal(stage.steps.includes("remove"), true);
});

test("an ended pod leaves probe set and ztunnel; its rules go with it", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  stage.steps.length = 0;
  stage.set("u", { phase: "Succeeded" });
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, [`drop ${IP}`, "del", "annotate null"]);
});

test("a deleted pod is forgotten", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  stage.steps.length = 0;
  stage.pods.delete("u");
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, [`drop ${IP}`, "del", "forget"]);
  assert.deepEqual(stage.reconciler.status(), []);
});

test("no ztunnel: pending and an error; with one, the pod joins by itself", async () => {
  await using stage = new Stage();
  stage.hasProxy = false;
  stage.set("u");
  stage.reconciler.takeSandbox("u", openOwn(), [IP]);
  await assert.rejects(stage.reconciler.converge("u"), { code: "NO_PROXY" });
  assert.equal(stage.annotation("u"), "pending");
  stage.hasProxy = true;
  await until("the retry", () => stage.annotation("u") === "enabled" || undefined);
});

test("a ztunnel that restarts does not turn enabled pods pending, one that refuses does", async () => {
  await using stage = new Stage({ startMs: 60_000, maxMs: 60_000 });
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  stage.acked.clear();
  stage.hasProxy = false;
  await assert.rejects(stage.reconciler.converge("u"), { code: "NO_PROXY" });
  assert.equal(stage.annotation("u"), "enabled");
  stage.hasProxy = true;
  stage.answer = { kind: "nack", error: "port taken" };
  await assert.rejects(stage.reconciler.converge("u"), { code: "PROXY_REFUSED" });
  assert.equal(stage.annotation("u"), "pending");
});

test("the audit finds rules that went missing and writes them again", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  stage.steps.length = 0;
  stage.inside.clear();
  stage.reconciler.audit();
  await until("the repair", () => stage.inside.size || undefined);
  assert.equal(stage.steps.filter((s) => s === "apply").length, 1);
});

test("a failing step is retried until it works, without repeating the annotation", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  stage.failing.add("apply");
  await assert.rejects(stage.reconciler.converge("u"), { code: "RULES" });
  assert.equal(stage.annotation("u"), undefined, "rules first");
  stage.failing.clear();
  await until("the retry", () => stage.annotation("u") === "enabled" || undefined);
});

test("a changed address changes the probe set, and the sandbox behind it is looked into", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  await stage.reconciler.converge("u");
  stage.steps.length = 0;
  stage.set("u", { ips: [parseIp("10.0.0.3")] });
  await stage.reconciler.converge("u");
  assert.deepEqual(stage.steps, ["find", "look", "put 10.0.0.3", `drop ${IP}`]);
});

test("after a reboot the annotation is not believed: same UID, new namespace without rules", async () => {
  await using stage = new Stage({ startMs: 60_000, maxMs: 60_000 });
  stage.set("u", { ips: [IP], annotation: "enabled" });
  stage.hasProxy = false;
  await stage.reconciler.settle();
  assert.deepEqual(stage.steps, ["find", "look", `put ${IP}`, "apply"]);
  const state = () => stage.reconciler.status()[0]?.["state"];
  assert.equal(state(), "not as wanted", "no ztunnel serves it yet, whatever the annotation says");
  await assert.rejects(stage.reconciler.converge("u"), { code: "NO_PROXY" });
  assert.equal(state(), "not as wanted");
  assert.deepEqual(stage.reconciler.counts(), {
    "in the mesh": 0,
    outside: 0,
    "not as wanted": 1,
  });
  stage.hasProxy = true;
  await stage.reconciler.converge("u");
  assert.equal(state(), "in the mesh");
  assert.equal(stage.annotation("u"), "enabled");
});

test("a pod whose namespace is not found is not reported as in the mesh", async () => {
  await using stage = new Stage({ startMs: 60_000, maxMs: 60_000 });
  stage.findable = false;
  stage.set("u", { ips: [IP], annotation: "enabled" });
  await assert.rejects(stage.reconciler.converge("u"), { code: "NETNS_NOT_FOUND" });
  assert.equal(stage.reconciler.counts()["not as wanted"], 1);
});

test("one pod is worked on by one run at a time, and requests join", async () => {
  await using stage = new Stage();
  stage.set("u", { ips: [IP] });
  let running = 0;
  const open = Promise.withResolvers<void>();
  stage.gate = async (step) => {
    if (step !== "find") return;
    assert.equal(++running, 1);
    await open.promise;
    running--;
  };
  const first = stage.reconciler.converge("u");
  await until("the first run", () => running || undefined);
  const [second, third] = [stage.reconciler.converge("u"), stage.reconciler.converge("u")];
  assert.equal(second, third);
  open.resolve();
  await Promise.all([first, second]);
  assert.equal(stage.steps.filter((s) => s === "apply").length, 1);
});

test("a pod that hangs does not keep others waiting", async () => {
  await using stage = new Stage(undefined, 2);
  const open = Promise.withResolvers<void>();
  let first = true;
  stage.gate = async (step) => {
    if (step !== "apply" || !first) return;
    first = false;
    await open.promise;
  };
  stage.set("bad");
  stage.reconciler.takeSandbox("bad", openOwn(), [IP]);
  const bad = stage.reconciler.converge("bad");
  for (const uid of ["a", "b", "c"]) {
    stage.set(uid, { ips: [IP] });
    await stage.reconciler.converge(uid);
    assert.equal(stage.annotation(uid), "enabled");
  }
  open.resolve();
  await bad;
});

test("at start pods get their rules before any ztunnel, and none is called pending", async () => {
  await using stage = new Stage();
  stage.hasProxy = false;
  stage.set("u", { ips: [IP], annotation: "enabled" });
  await stage.reconciler.settle();
  assert.equal(stage.inside.size, 1);
  assert.equal(stage.steps.includes("add"), false);
  assert.deepEqual(
    [...stage.reconciler.snapshot()].map((e) => [e.pod.uid, e.netns !== null]),
    [["u", true]],
  );
});

test("a pod whose namespace is not found yet is kept by the ztunnel that serves it", async () => {
  await using stage = new Stage();
  stage.findable = false;
  stage.set("u", { ips: [IP], annotation: "enabled" });
  stage.set("v", { ips: [IP] });
  await stage.reconciler.settle();
  assert.deepEqual(
    [...stage.reconciler.snapshot()].map((e) => [e.pod.uid, e.netns]),
    [["u", null]],
  );
});
