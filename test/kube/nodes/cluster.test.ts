// A cluster of real kubelets: what every test on nodes takes for granted.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BUSYBOX_IMAGE } from "../images.ts";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";

const needs = await kubeSandbox();
let cluster: KubeCluster;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await KubeCluster.start();
  const { apiReady, nodesReady } = cluster.startupMs;
  console.log(`API server ready after ${apiReady} ms, both nodes after ${nodesReady} ms`);
  const pods = cluster.nodes.map(({ name }) => webPod(`web-${name}`, name));
  await cluster.apply(...pods, SERVICE);
  await cluster.waitFor("condition=Ready", "default", ...pods.map((p) => `pod/${p.metadata.name}`));
  console.log(`pods ready`);
});
after(() => cluster?.[Symbol.asyncDispose]());

test("pods of one node reach those of the other over the link, in clear", needs, async () => {
  await using capture = await cluster.capture();
  const [ip = ""] = await podIps("web-node-b");
  const { stdout, stderr } = await fetchFrom("web-node-a", `http://${ip}:8080/`);
  assert.equal(stdout.trim(), "web-node-b", stderr);
  assert.ok(await capture.contains("web-node-b"));
});

test("a service address and name reach pods of both nodes", needs, async () => {
  const seen = new Set<string>();
  for (let tries = 0; tries < 50 && seen.size < 2; tries++) {
    const { stdout, stderr } = await fetchFrom(
      "web-node-a",
      "http://web.default.svc.cluster.local/",
    );
    assert.equal(stderr, "");
    seen.add(stdout.trim());
  }
  assert.deepEqual([...seen].toSorted(), ["web-node-a", "web-node-b"]);
});

test("a rebooted node comes back with its pods, in namespaces of their own", needs, async () => {
  const before = await podIps("web-node-b");
  const node = cluster.node("node-b");
  await node.reboot({ order: ["kubelet", "containerd", "kube-proxy"] });
  // what was reported before the crash stands until the kubelet says otherwise
  await cluster.until("web-node-b to be ready again", async () => {
    const { stdout } = await cluster.kubectl([
      "get",
      "pod",
      "web-node-b",
      "-o",
      RESTARTS_AND_READY,
    ]);
    return stdout === "1 true";
  });
  const { stdout } = await node.exec(["sh", "-c", "ls /run/netns | wc -l"]);
  assert.equal(stdout.trim(), "1");
  const after = await podIps("web-node-b");
  assert.notDeepEqual(after, before);
  const answer = await fetchFrom("web-node-a", `http://${after[0]}:8080/`);
  assert.equal(answer.stdout.trim(), "web-node-b", answer.stderr);
});

const RESTARTS_AND_READY =
  "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";

async function podIps(name: string): Promise<string[]> {
  const { stdout } = await cluster.kubectl(["get", "pod", name, "-o", "json"]);
  const { status } = JSON.parse(stdout) as { status: { podIPs: { ip: string }[] } };
  return status.podIPs.map(({ ip }) => ip);
}

/** Debian's busybox crashes on `wget -T`. */
function fetchFrom(pod: string, url: string): ReturnType<KubeCluster["exec"]> {
  return cluster.exec("default", pod, ["timeout", "5", "wget", "-q", "-O", "-", url]);
}

/** Answers every request with its own name. */
function webPod(name: string, nodeName: string) {
  const serve = `mkdir -p /www && echo ${name} >/www/index.html && exec httpd -f -p 8080 -h /www`;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", labels: { app: "web" } },
    spec: {
      nodeName,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: "web",
          image: BUSYBOX_IMAGE,
          imagePullPolicy: "Never",
          command: ["sh", "-c", serve],
          readinessProbe: { httpGet: { path: "/", port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
  };
}

const SERVICE = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web", namespace: "default" },
  spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
};
