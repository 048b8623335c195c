// The startup taint and the self-test before it, and advice about NetworkPolicies, on a directory of
// manifests for a cluster.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { systemClock } from "#lib/base/clock.ts";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import type { PolicyFinding } from "#lib/kube/network-policy.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { PolicyWatch } from "./policy-watch.ts";
import { selfTest } from "./self-test.ts";
import { removeTaint, removeTaintOnceFit } from "./startup-taint.ts";
import { until } from "./test-ztunnel.ts";

const KEY = "cni.istio.io/not-ready";
const log = pino({ level: "silent" });

class TestCluster extends DirectoryCluster implements Disposable {
  constructor() {
    super(mkdtempSync(join(tmpdir(), "cni-taint-")));
  }

  async taint(...keys: readonly string[]): Promise<void> {
    await this.apply(
      RESOURCES.nodes,
      {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: "n1" },
        spec: { taints: keys.map((key) => ({ key, effect: "NoSchedule" })) },
      },
      { fieldManager: "test" },
    );
  }

  async taints(): Promise<readonly string[]> {
    const node = await this.get(RESOURCES.nodes, null, "n1");
    return (node?.spec?.taints ?? []).map((taint) => taint.key);
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

test("only our taint goes", async () => {
  using cluster = new TestCluster();
  await cluster.taint("a", KEY, "b");
  assert.equal(await removeTaint(cluster, "n1", KEY), true);
  assert.deepEqual(await cluster.taints(), ["a", "b"]);
  assert.equal(await removeTaint(cluster, "n1", KEY), false);
  await cluster.taint(KEY);
  assert.equal(await removeTaint(cluster, "n1", KEY), true);
  assert.deepEqual(await cluster.taints(), []);
  await assert.rejects(removeTaint(cluster, "other", KEY), { code: "NOT_FOUND" });
});

test("it goes once the self-test passes, not before", async () => {
  using cluster = new TestCluster();
  await cluster.taint(KEY);
  let faults = ["no ztunnel is connected"];
  let tests = 0;
  const stop = new AbortController();
  const done = removeTaintOnceFit({
    cluster,
    nodeName: "n1",
    key: KEY,
    selfTest: () => Promise.resolve((tests++, faults)),
    log,
    clock: { ...systemClock, sleep: (_ms, signal) => systemClock.sleep(5, signal) },
    signal: stop.signal,
  });
  await until("a few tests", () => tests > 3 || undefined);
  assert.deepEqual(await cluster.taints(), [KEY]);
  faults = [];
  await done;
  assert.deepEqual(await cluster.taints(), []);
});

test("the self-test runs the plugin and asks the socket as the plugin does", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cni-self-"));
  const plugin = join(dir, "istio-cni");
  const ask = (ztunnels = 1) =>
    selfTest({
      plugin,
      runDir: dir,
      installFaults: () => Promise.resolve([]),
      ztunnels: () => ztunnels,
    });
  const server = createServer((request, response) =>
    response.writeHead(request.url === "/status" ? 200 : 404).end(),
  );
  try {
    const bare = (await ask()).join("; ");
    assert.match(bare, /ENOENT.*the agent's socket/);
    await new Promise<void>((resolve) => server.listen(join(dir, "pluginevent.sock"), resolve));
    writeFileSync(plugin, "#!/bin/sh\necho not json\n", { mode: 0o755 });
    assert.match((await ask()).join(), /istio-cni: [^]*JSON/);
    writeFileSync(plugin, '#!/bin/sh\necho \'{"supportedVersions":["1.0.0"]}\'\n');
    assert.deepEqual(await ask(), []);
    assert.deepEqual(await ask(0), ["no ztunnel is connected"]);
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true, force: true });
  }
});

test("policies that refuse HBONE are named while they do", async () => {
  using cluster = new TestCluster();
  mkdirSync(cluster.dir, { recursive: true });
  const pod: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "cart", namespace: "shop", uid: "u-1", labels: { app: "cart" } },
  };
  let shown: readonly PolicyFinding[] = [];
  const lines: string[] = [];
  const stop = new AbortController();
  using watch = new PolicyWatch({
    cluster,
    meshedPods: () => [pod],
    log: pino({ level: "info" }, { write: (line) => void lines.push(line) }),
    onFindings: (findings) => (shown = findings),
  });
  const running = watch.run(stop.signal);
  await cluster.apply(
    RESOURCES.networkPolicies,
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "web-only", namespace: "shop" },
      spec: { podSelector: {}, ingress: [{ ports: [{ port: 8080 }] }] },
    },
    { fieldManager: "test" },
  );
  await until("the finding", () => shown.length === 1 || undefined);
  assert.deepEqual(watch.findingsOf("u-1")[0]?.policies, ["web-only"]);
  watch.refreshSoon();
  await cluster.delete(RESOURCES.networkPolicies, "shop", "web-only");
  await until("its end", () => shown.length === 0 || undefined);
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { msg: string }).msg),
    ["a NetworkPolicy refuses mesh traffic", "no NetworkPolicy refuses mesh traffic any more"],
  );
  stop.abort();
  await running;
});
