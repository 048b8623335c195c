// Gateways over a real manifest directory: statuses, and deploying where a cluster of Kubernetes refuses.
// What a real API server makes of all this is in test/kube/api/gateway.test.ts.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#lib/base/clock.ts";
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type Gateway, RESOURCES } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { Metrics } from "../metrics.ts";
import { Deployer } from "./deployer.ts";
import { GatewayCache } from "./gateway-cache.ts";
import { GatewayTasks } from "./gateway-tasks.ts";
import type { ProgramImage } from "./settings.ts";
import { PROGRAM, SETTINGS } from "./test-gateway.ts";

const TIMEOUT = { timeout: 15_000 };
const GATEWAY = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop} # by hand
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
`;
const REACH = (ready: boolean): string => `apiVersion: v1
kind: Service
metadata: {name: waypoint, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: mesh, port: 15008}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: waypoint-1, namespace: shop, labels: {kubernetes.io/service-name: waypoint}}
addressType: IPv4
ports: [{name: mesh, port: 15008}]
endpoints: [{addresses: [10.244.0.9], conditions: {ready: ${ready}}}]
`;

class Rig implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "ambit-gateway-"));
  readonly cluster = new DirectoryCluster(this.dir);
  readonly lines: string[] = [];
  readonly log = createLogger({
    scope: "test",
    level: "debug",
    format: "json",
    destination: { write: (line) => void this.lines.push(line) },
  });
  readonly #end = new AbortController();
  readonly #running: Promise<unknown>[] = [];

  put(file: string, text: string): void {
    writeFileSync(join(this.dir, file), text);
  }

  run(body: (signal: AbortSignal) => Promise<unknown>): void {
    this.#running.push(body(this.#end.signal));
  }

  /** The tasks as istiod runs them over a directory. */
  statuses(): void {
    const tasks = new GatewayTasks({
      cluster: this.cluster,
      api: null,
      settings: () => SETTINGS,
      program: PROGRAM,
      pod: { namespace: "istio-system", name: "istiod-0" },
      isSelected: () => true,
      metrics: new Metrics("test"),
      log: this.log,
      clock: systemClock,
    });
    this.run((signal) => tasks.run(signal));
    for (const task of tasks.leaderTasks) this.run((signal) => task.lead(signal));
  }

  /** A deployer over the directory, as if it were an API server. */
  deployer(cluster: Cluster, program: ProgramImage | null): void {
    const { log } = this;
    const cache = new GatewayCache({
      cluster,
      settings: () => SETTINGS,
      isSelected: () => true,
      isDeploying: true,
      log,
    });
    const deployer = new Deployer({
      cluster,
      cache,
      settings: () => SETTINGS,
      program,
      pod: { namespace: "istio-system", name: "istiod-0" },
      lock: "lock",
      log,
      clock: systemClock,
    });
    this.run((signal) => cache.run(signal));
    this.run((signal) => deployer.lead(signal));
  }

  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 5_000; !(await holds()); await sleep(5))
      if (Date.now() > end) assert.fail(`not within 5 s: ${what}\n${this.lines.join("")}`);
  }

  gateway(): Promise<Gateway | null> {
    return this.cluster.get(RESOURCES.gateways, "shop", "waypoint");
  }

  async programmed(reason: string): Promise<void> {
    await this.until(reason, async () => {
      const conditions = (await this.gateway())?.status?.conditions ?? [];
      return conditions.some((c) => c.type === "Programmed" && c.reason === reason);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#running);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

test(
  "over a directory: the status follows the endpoints, nothing is deployed",
  TIMEOUT,
  async () => {
    await using rig = new Rig();
    rig.put("gateway.yaml", GATEWAY);
    rig.statuses();
    await rig.programmed("AddressNotUsable");
    rig.put("reach.yaml", REACH(true));
    await rig.programmed("Programmed");
    const addresses = [
      { type: "IPAddress", value: "10.96.0.9" },
      { type: "Hostname", value: "waypoint.shop.svc.cluster.local" },
    ];
    assert.deepEqual((await rig.gateway())?.status?.addresses, addresses);
    rig.put("reach.yaml", REACH(false));
    await rig.programmed("AddressNotAssigned");
    assert.deepEqual((await rig.gateway())?.status?.addresses, addresses);
    assert.equal(readFileSync(join(rig.dir, "gateway.yaml"), "utf8"), GATEWAY, "nobody's words");
    assert.deepEqual(await rig.cluster.list(RESOURCES.deployments), []);
    assert.deepEqual(await rig.cluster.list(RESOURCES.gatewayClasses), []);
  },
);

test("a status written by another hand comes back, in one write", TIMEOUT, async () => {
  await using rig = new Rig();
  rig.put("gateway.yaml", GATEWAY);
  rig.put("reach.yaml", REACH(true));
  rig.statuses();
  await rig.programmed("Programmed");
  const status = {
    conditions: [
      {
        type: "Programmed",
        status: "False",
        reason: "Other",
        lastTransitionTime: "2026-01-01T00:00:00Z",
      },
      {
        type: "example.org/Seen",
        status: "True",
        reason: "Yes",
        lastTransitionTime: "2026-01-01T00:00:00Z",
      },
    ],
  };
  const by = { fieldManager: "other", subresource: "status" } as const;
  await rig.cluster.patch(RESOURCES.gateways, "shop", "waypoint", { status }, by);
  await rig.programmed("Programmed");
  const types = (await rig.gateway())?.status?.conditions?.map((c) => c.type);
  assert.deepEqual(types?.toSorted(), [
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "example.org/Seen",
  ]);
});

test("a tag that comes to name our revision makes its Gateways ours", TIMEOUT, async () => {
  await using rig = new Rig();
  const stable = "metadata: {name: waypoint, namespace: shop, labels: {istio.io/rev: stable}}";
  rig.put("gateway.yaml", GATEWAY.replace(/metadata: .*/, stable));
  rig.put("reach.yaml", REACH(true));
  rig.statuses();
  await sleep(100); // nothing is to happen
  assert.equal((await rig.gateway())?.status, undefined);
  rig.put(
    "tag.yaml",
    `{apiVersion: v1, kind: Service, metadata: {name: istiod-revision-tag-stable, namespace: istio-system,
      labels: {istio.io/tag: stable, istio.io/rev: default}}, spec: {clusterIP: 10.96.0.1, ports: [{port: 15012}]}}`,
  );
  await rig.programmed("Programmed");
});

test("waypoints run from the image of our own pod", TIMEOUT, async () => {
  await using rig = new Rig();
  rig.put("gateway.yaml", GATEWAY);
  rig.put(
    "istiod.yaml",
    `{apiVersion: v1, kind: Pod, metadata: {name: istiod-0, namespace: istio-system}, spec: {containers: [
      {name: sidecar, image: other}, {name: discovery, image: "example.org/ambit:1", imagePullPolicy: Never}]}}`,
  );
  rig.deployer(rig.cluster, null);
  const deployed = (): ReturnType<Rig["cluster"]["get"]> =>
    rig.cluster.get(RESOURCES.deployments, "shop", "waypoint");
  await rig.until("a Deployment", async () => (await deployed()) !== null);
  const text = JSON.stringify(await deployed());
  assert.match(text, /"image":"example.org\/ambit:1","imagePullPolicy":"Never"/);
});

/** Refuses to store Services. */
class Refusing implements Cluster {
  attempts = 0;
  readonly #inner: Cluster;
  readonly get: Cluster["get"];
  readonly list: Cluster["list"];
  readonly watch: Cluster["watch"];
  readonly patch: Cluster["patch"];
  readonly delete: Cluster["delete"];

  constructor(inner: Cluster) {
    this.#inner = inner;
    this.get = inner.get.bind(inner);
    this.list = inner.list.bind(inner);
    this.watch = inner.watch.bind(inner);
    this.patch = inner.patch.bind(inner);
    this.delete = inner.delete.bind(inner);
  }

  async apply<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: Parameters<Cluster["apply"]>[2],
  ): Promise<T> {
    if (resource.kind !== "Service") return this.#inner.apply(resource, object, options);
    this.attempts++;
    throw new KubeError("INVALID", "Cannot patch Service shop/waypoint: spec.type is wrong");
  }
}

test(
  "what cannot be stored is tried five times, said once, and tried again after a change",
  TIMEOUT,
  async () => {
    await using rig = new Rig();
    const cluster = new Refusing(rig.cluster);
    const version = 'annotations: {gateway.istio.io/controller-version: "5"}';
    const marked = GATEWAY.replace("namespace: shop}", `namespace: shop, ${version}}`);
    rig.put("gateway.yaml", marked);
    rig.deployer(cluster, PROGRAM);
    const warned = (): number =>
      rig.lines.filter((l) => l.includes("gateway cannot be deployed")).length;
    await rig.until("giving up", async () => warned() === 1);
    assert.equal(cluster.attempts, 5);
    rig.put("gateway.yaml", marked.replace("name: mesh,", "name: other,"));
    await rig.until("giving up again", async () => warned() === 2);
    assert.equal(cluster.attempts, 10);
  },
);

test("without an image nothing is deployed, and the log says what to set", TIMEOUT, async () => {
  await using rig = new Rig();
  rig.put("gateway.yaml", GATEWAY);
  rig.deployer(rig.cluster, null);
  await rig.until("a warning", async () => rig.lines.some((l) => l.includes("set AMBIT_IMAGE")));
  assert.deepEqual(await rig.cluster.list(RESOURCES.deployments), []);
});
