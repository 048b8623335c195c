// `ambit` in a cluster with real kubelets: a failing and a good installation, answers through forwarded ports, and
// an uninstallation that leaves nothing.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { cliFor, json, type Cli } from "../api/cli-run.ts";
import { BUSYBOX_IMAGE } from "../images.ts";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";

const needs = await kubeSandbox();
let cluster: KubeCluster;
let cli: Cli;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await KubeCluster.start({ crds: ["gateway-api"], images: ["ambit"] });
  cli = cliFor(cluster.api);
  await cluster.apply(
    NAMESPACE,
    pod("web", "node-b", SERVE),
    pod("client", "node-a", "sleep 3600"),
  );
  await cluster.waitFor("condition=Ready", "shop", "pod/web", "pod/client");
});
after(() => cluster?.[Symbol.asyncDispose]());

test(
  "an installation that fails names node, pod, container, reason and the next command",
  needs,
  async () => {
    const ran = await cli(
      "install --profile kind --set image=ambit.test/nothing:1 --set imagePullPolicy=Never --skip-checks -y --timeout 8s",
    );
    assert.equal(ran.code, 5, ran.stderr);
    assert.match(ran.stderr, /error: deployment\/istiod not ready after 8.*: 0 of 1/);
    assert.match(
      ran.stderr,
      /node node-[ab]: pod istio-system\/istiod-\S+, container discovery: ErrImageNeverPull/,
    );
    assert.match(ran.stderr, /kubectl -n istio-system describe pod istiod-/);
  },
);

test("an installation goes on from there, and every part answers", needs, async () => {
  const ran = await cli("install --profile kind --set imagePullPolicy=Never -y --timeout 120s");
  assert.equal(ran.code, 0, ran.stderr);
  const status = await cli("status -o wide");
  assert.equal(status.code, 0, status.stdout + status.stderr);
  assert.match(status.stdout, /ztunnel +2 +2 +\S+ +2\/2 /);
  const proxies = await cli("proxy-status");
  assert.equal(proxies.code, 0, proxies.stdout + proxies.stderr);
  assert.equal(proxies.stdout.match(/SYNCED/g)?.length, 2);
  assert.match(
    (await cli("version")).stdout,
    /control plane version: .*\ndata plane version: .* \(2 ztunnels\)/,
  );
});

test(
  "enrolled pods show up in every view, and explain agrees with what happens",
  needs,
  async () => {
    const enrolled = await cli("enroll ns/shop --wait --timeout 60s");
    assert.equal(enrolled.stdout, "namespace/shop enrolled (2 pods captured)\n", enrolled.stderr);
    // what the pods' annotations say reaches the ztunnels a moment later
    await cluster.until("both pods to be HBONE", async () => {
      const { stdout } = await cli("zc workload -n shop --no-headers");
      return stdout.match(/(client|web) .* HBONE\n/g)?.length === 2;
    });
    const explained = await cli("explain connection client.shop svc/web:80");
    assert.equal(explained.code, 0, explained.stdout + explained.stderr);
    const fetched = await cluster.exec("shop", "client", [
      ...["timeout", "10", "wget", "-q", "-O", "-", "http://web.shop.svc.cluster.local/"],
    ]);
    assert.equal(fetched.stdout.trim(), "web", fetched.stderr);
    const described = await cli("describe pod web -n shop");
    assert.match(described.stdout, /Capture +enabled[^]*Listeners +open[^]*cert Available/);
    assert.match(
      (await cli("describe node node-b")).stdout,
      /ztunnel +ztunnel-\S+ +ready[^]*1 captured/,
    );
    const events = await cli("tunnels watch --since 5m --limit 1 -o json");
    assert.match(events.stdout, /"event"/);
    const checked = await cli("check");
    assert.doesNotMatch(checked.stdout, /✖/);
  },
);

test("a waypoint comes up, and is connected", needs, async () => {
  const applied = await cli("waypoint apply -n shop --enroll-namespace --wait --timeout 60s");
  assert.equal(applied.code, 0, applied.stderr);
  assert.match((await cli("waypoint list -n shop")).stdout, / True +1\/1 +namespace\/shop /);
  assert.match((await cli("proxy-status")).stdout, /waypoint-\S+.shop +waypoint +.* SYNCED/);
});

test("a bug report has the logs and pages of every part", needs, async () => {
  const file = join(cluster.dir, "report.tar.gz");
  const { items, missing } = await json<{ items: string[]; missing: unknown[] }>(
    cli,
    `bug-report --out ${file}`,
  );
  assert.deepEqual(missing, []);
  for (const part of ["istiod/", "ztunnel/node-a/", "istio-cni-node/node-b/"])
    assert.ok(
      items.some((f) => f.startsWith(part) && f.endsWith(".log")),
      part,
    );
  assert.ok(items.includes("ztunnel/node-b/config_dump.json"));
  const text = gunzipSync(readFileSync(file)).toString("latin1");
  assert.doesNotMatch(text, /BEGIN [A-Z ]*PRIVATE KEY|eyJ[\w-]{20,}\.[\w-]{20,}\./);
});

test(
  "an uninstallation takes the pods out, and leaves no trace on nodes or in the cluster",
  needs,
  async () => {
    const ran = await cli("uninstall --unenroll --purge -y");
    assert.equal(ran.code, 0, ran.stderr);
    const namespaces = await cluster.kubectl(["get", "namespaces", "-o", "name"]);
    assert.doesNotMatch(namespaces.stdout, /istio-system/, "it waits until the namespace is gone");
    const left = await cluster.kubectl([
      ...["get", "-A", "-o", "name", "-l", "app.kubernetes.io/part-of=ambit"],
      "crd,clusterroles,clusterrolebindings,deploy,ds,svc,cm,sa,roles,rolebindings,pods",
    ]);
    assert.equal(left.stdout, "");
    for (const node of cluster.nodes) {
      const { stdout } = await node.exec([
        "sh",
        "-c",
        "ls /etc/cni/net.d /opt/cni/bin; cat /etc/cni/net.d/*",
      ]);
      assert.doesNotMatch(stdout, /istio/);
    }
    const fetched = await cluster.exec("shop", "client", [
      ...["timeout", "10", "wget", "-q", "-O", "-", "http://web.shop.svc.cluster.local/"],
    ]);
    assert.equal(fetched.stdout.trim(), "web", fetched.stderr);
  },
);

const SERVE = "mkdir -p /www && echo web >/www/index.html && exec httpd -f -p 8080 -h /www";

const NAMESPACE = {
  apiVersion: "v1",
  kind: "List",
  items: [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", namespace: "shop" },
      spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
    },
  ],
};

function pod(name: string, nodeName: string, command: string) {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "shop", labels: { app: name } },
    spec: {
      nodeName,
      terminationGracePeriodSeconds: 0,
      containers: [
        { name, image: BUSYBOX_IMAGE, imagePullPolicy: "Never", command: ["sh", "-c", command] },
      ],
    },
  };
}
