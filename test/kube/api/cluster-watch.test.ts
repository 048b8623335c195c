// Watches of the API-server backend against a real API server that restarts, forgets and learns kinds.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { about, type ApiServer } from "#lib/kube/api-server/api-server.ts";
import type { Clock } from "#lib/base/clock.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import type { KubeObject, ListOptions, Resource } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type AuthorizationPolicy, RESOURCES } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { ControlPlane } from "../control-plane.ts";

const log = createLogger({ scope: "test", level: "silent", format: "json" });
const ours = { fieldManager: "ambit-test" };
let plane: ControlPlane;
let api: ApiServer;
let cluster: ApiServerCluster;

before(async () => {
  // old versions are forgotten every second
  plane = await ControlPlane.start({
    auditLog: true,
    flags: ["--etcd-compaction-interval=1s"],
  });
  api = await openApiServer({ kubeconfig: plane.kubeconfig });
  cluster = new ApiServerCluster(api, { log });
});
after(async () => {
  api[Symbol.dispose]();
  await plane[Symbol.asyncDispose]();
});

/** A watch whose events are kept as text: `added default/one`. */
class Recorder implements AsyncDisposable {
  readonly events: string[] = [];
  readonly errors: string[] = [];
  syncs = 0;
  objects = new Map<string, KubeObject>();
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #changed = Promise.withResolvers<void>();

  constructor(of: ApiServerCluster, resource: Resource, options: ListOptions = {}) {
    this.#done = of.watch(
      resource,
      {
        onEvents: (events) => {
          for (const { type, object } of events) {
            const key = object.metadata.name;
            this.events.push(`${type} ${key}`);
            if (type === "deleted") this.objects.delete(key);
            else this.objects.set(key, object);
          }
          this.#wake();
        },
        onSynced: () => {
          this.syncs++;
          this.#wake();
        },
        onError: (error) => {
          this.errors.push(error.message);
          this.#wake();
        },
      },
      { ...options, signal: this.#abort.signal },
    );
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await this.#changed.promise;
      this.#changed = Promise.withResolvers();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }

  #wake(): void {
    this.#changed.resolve();
  }
}

async function asked(verb: string, uriPart: string): Promise<number> {
  const events = await plane.auditEvents();
  return events.filter(
    (e) =>
      e.verb === verb &&
      (e.stage !== "ResponseComplete") === (verb === "watch") &&
      e.requestURI.includes(uriPart),
  ).length;
}

async function send(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown) {
  const contentType = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  return api.request({ method, path, body, contentType, subject: about(method, path) });
}

async function put(name: string, value: string, labels: Record<string, string> = {}) {
  const metadata = { name, namespace: "default", labels };
  const object = { apiVersion: "v1", kind: "ConfigMap", metadata, data: { value } };
  return cluster.apply(RESOURCES.configMaps, object, ours);
}

test("a watch gives what is there, syncs once, and then every change", {
  timeout: 10_000,
}, async () => {
  await put("first", "1", { watch: "plain" });
  const plain = { namespace: "default", labelSelector: "watch=plain" };
  await using seen = new Recorder(cluster, RESOURCES.configMaps, plain);
  await seen.until(() => seen.syncs === 1);
  assert.deepEqual(seen.events, ["added first"]);
  await using late = new Recorder(cluster, RESOURCES.configMaps, plain);
  await late.until(() => late.syncs === 1);
  await put("first", "2", { watch: "plain" });
  await put("second", "1", { watch: "plain" });
  await cluster.delete(RESOURCES.configMaps, "default", "first");
  await put("second", "1"); // leaves the selection
  const wanted = [
    "added first",
    "modified first",
    "added second",
    "deleted first",
    "deleted second",
  ];
  await seen.until(() => seen.events.length === wanted.length);
  assert.deepEqual(seen.events, wanted);
  await late.until(() => late.events.length === wanted.length);
  assert.deepEqual(late.events, wanted);
  assert.equal(seen.objects.get("first")?.metadata.name, undefined);
  assert.equal(await asked("watch", "watch%3Dplain"), 1, "one watch for both");
});

test("kept objects have lost what nobody reads", { timeout: 10_000 }, async () => {
  const annotations = { "kubectl.kubernetes.io/last-applied-configuration": "{}", keep: "me" };
  await cluster.apply(
    RESOURCES.configMaps,
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "lean", namespace: "default", annotations },
      data: { a: "b" },
    },
    ours,
  );
  await using seen = new Recorder(cluster, RESOURCES.configMaps, {
    fieldSelector: "metadata.name=lean",
  });
  await seen.until(() => seen.syncs === 1);
  const lean = seen.objects.get("lean");
  assert.deepEqual(Object.keys(lean ?? {}).toSorted(), ["apiVersion", "data", "kind", "metadata"]);
  assert.equal(lean?.apiVersion, "v1");
  assert.deepEqual(lean?.metadata.annotations, { keep: "me" });
  assert.equal("managedFields" in (lean?.metadata ?? {}), false);
  const curious = new ApiServerCluster(api, { log, keeps: "everything" });
  await using whole = new Recorder(curious, RESOURCES.configMaps, {
    fieldSelector: "metadata.name=lean",
  });
  await whole.until(() => whole.syncs === 1);
  assert.equal(Object.keys(whole.objects.get("lean")?.metadata.annotations ?? {}).length, 2);
});

test("a restarted API server costs nothing but time", { timeout: 30_000 }, async () => {
  await put("steady", "1", { watch: "restart" });
  await put("doomed", "1", { watch: "restart" });
  await using seen = new Recorder(cluster, RESOURCES.configMaps, {
    labelSelector: "watch=restart",
  });
  await seen.until(() => seen.syncs === 1);
  await plane.stopApiServer();
  await seen.until(() => seen.errors.length > 0);
  assert.match(seen.errors.join(), /ECONNREFUSED|ECONNRESET/);
  await plane.startApiServer();
  await cluster.delete(RESOURCES.configMaps, "default", "doomed");
  await put("born", "1", { watch: "restart" });
  await seen.until(() => seen.events.length === 4);
  assert.deepEqual(seen.events.toSorted(), [
    "added born",
    "added doomed",
    "added steady",
    "deleted doomed",
  ]);
  assert.equal(seen.syncs, 1);
});

test("when the version to go on from is forgotten, only differences are told", {
  timeout: 30_000,
}, async () => {
  const gate = Promise.withResolvers<void>();
  const asleep = Promise.withResolvers<void>();
  const clock: Clock = {
    now: () => performance.now(),
    sleep: () => {
      asleep.resolve();
      return gate.promise;
    },
  };
  const waiting = new ApiServerCluster(api, { log, clock });
  await put("same", "1", { watch: "gone" });
  await put("changed", "1", { watch: "gone" });
  await put("removed", "1", { watch: "gone" });
  await using seen = new Recorder(waiting, RESOURCES.configMaps, { labelSelector: "watch=gone" });
  await seen.until(() => seen.syncs === 1);
  seen.events.length = 0;
  await put("elsewhere", "1"); // newer than anything the watch has heard of
  await plane.stopApiServer();
  await asleep.promise;
  await plane.startApiServer(); // whose memory of events begins now
  await put("changed", "2", { watch: "gone" });
  await cluster.delete(RESOURCES.configMaps, "default", "removed");
  await put("new", "1", { watch: "gone" });
  gate.resolve();
  await seen.until(() => seen.events.length >= 3);
  assert.deepEqual(seen.events.toSorted(), ["added new", "deleted removed", "modified changed"]);
  assert.equal(seen.syncs, 1);
  assert.equal(await asked("list", "watch%3Dgone"), 2, "listed again");
});

test("a kind whose CRD is missing is empty, and begins when it is served", {
  timeout: 20_000,
}, async () => {
  await using seen = new Recorder(cluster, RESOURCES.authorizationPolicies);
  await using gateways = new Recorder(cluster, RESOURCES.gateways);
  await seen.until(() => seen.syncs === 1);
  await gateways.until(() => gateways.syncs === 1);
  assert.deepEqual(await cluster.list(RESOURCES.authorizationPolicies), []);
  assert.equal(await cluster.get(RESOURCES.authorizationPolicies, "default", "x"), null);
  const policy = {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "deny", namespace: "default" },
    spec: { action: "DENY" },
  };
  await assert.rejects(
    cluster.apply(RESOURCES.authorizationPolicies, policy, ours),
    /does not serve authorizationpolicies.security.istio.io: is its CustomResourceDefinition installed/,
  );
  // Only the older version, as an older installation has it.
  const crd = policyCrd(["v1beta1"]);
  await send("POST", CRDS, crd);
  const stored = await applied(policy);
  assert.equal(stored.apiVersion, "security.istio.io/v1beta1");
  await seen.until(() => seen.events.length === 1);
  assert.deepEqual(seen.events, ["added deny"]);
  await send("DELETE", `${CRDS}/${crd.metadata.name}`);
  await seen.until(() => seen.objects.size === 0);
  await gone(`${CRDS}/${crd.metadata.name}`);
  await send("POST", CRDS, policyCrd(["v1"]));
  const anew = await applied(policy);
  assert.equal(anew.apiVersion, "security.istio.io/v1");
  await seen.until(() => seen.objects.size === 1);
  assert.deepEqual(seen.errors, []);
  assert.equal(seen.syncs, 1);
});

test("a malformed object is named and changes nothing else", { timeout: 10_000 }, async () => {
  const policies = "/apis/security.istio.io/v1/namespaces/default/authorizationpolicies";
  const header = { apiVersion: "security.istio.io/v1", kind: "AuthorizationPolicy" };
  await send("POST", policies, {
    ...header,
    metadata: { name: "odd" },
    spec: { action: "ALLOW" },
  });
  const change = (action: string) => send("PATCH", `${policies}/odd`, { spec: { action } });
  await using seen = new Recorder(cluster, RESOURCES.authorizationPolicies);
  await seen.until(() => seen.syncs === 1 && seen.objects.has("odd"));
  await change("MAYBE");
  await seen.until(() => seen.errors.length === 1);
  assert.match(
    seen.errors[0] ?? "",
    /AuthorizationPolicy default\/odd: spec.action: expected one of ALLOW.*"MAYBE"/,
  );
  assert.deepEqual((seen.objects.get("odd") as { spec?: object } | undefined)?.spec, {
    action: "ALLOW",
  });
  await using late = new Recorder(cluster, RESOURCES.authorizationPolicies);
  await late.until(() => late.syncs === 1);
  assert.equal(late.errors.length, 1, "late watchers hear of standing faults");
  await change("DENY");
  await seen.until(() => seen.events.at(-1) === "modified odd");
});

test("at rest nothing is asked", { timeout: 10_000 }, async () => {
  await using pods = new Recorder(cluster, RESOURCES.pods);
  await using missing = new Recorder(cluster, RESOURCES.serviceEntries);
  await pods.until(() => pods.syncs === 1);
  await missing.until(() => missing.syncs === 1);
  await sleep(300); // the watch of the CRDs begins
  const count = async () =>
    (await plane.auditEvents()).filter(
      (event) => event.userAgent === "ambit" && event.stage === "ResponseComplete",
    ).length;
  const before = await count();
  await sleep(1_500);
  assert.equal(await count(), before);
});

const CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/** As soon as its kind is served. */
async function applied(policy: AuthorizationPolicy): Promise<KubeObject> {
  for (;;) {
    try {
      return await cluster.apply(RESOURCES.authorizationPolicies, policy, ours);
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== "NOT_SERVED") throw error;
      await sleep(50);
    }
  }
}

async function gone(path: string): Promise<void> {
  for (;;) {
    try {
      await api.raw(path);
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return;
      throw error;
    }
    await sleep(50);
  }
}

function policyCrd(versions: readonly string[]) {
  const schema = {
    openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
  };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "authorizationpolicies.security.istio.io" },
    spec: {
      group: "security.istio.io",
      scope: "Namespaced",
      names: {
        kind: "AuthorizationPolicy",
        listKind: "AuthorizationPolicyList",
        plural: "authorizationpolicies",
        singular: "authorizationpolicy",
      },
      versions: versions.map((name, i) => ({ name, served: true, storage: i === 0, schema })),
    },
  };
}
