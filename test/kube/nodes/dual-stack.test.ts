// Both address families at once, on the iptables flavour of kube-proxy.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BUSYBOX_IMAGE } from "../images.ts";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";

const needs = await kubeSandbox();
let cluster: KubeCluster;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await KubeCluster.start({ ipFamily: "dual", proxyMode: "iptables" });
  await cluster.apply(pod("web", "node-b"), pod("client", "node-a"), SERVICE);
  await cluster.waitFor("condition=Ready", "default", "pod/web", "pod/client");
});
after(() => cluster?.[Symbol.asyncDispose]());

test("a pod has an address of each family, and both are reached over the link", needs, async () => {
  const { stdout } = await cluster.kubectl(["get", "pod", "web", "-o", "json"]);
  const { status } = JSON.parse(stdout) as { status: { podIPs: { ip: string }[] } };
  const ips = status.podIPs.map(({ ip }) => ip);
  assert.deepEqual(
    ips.map((ip) => ip.includes(":")),
    [false, true],
  );
  for (const ip of ips) assert.equal(await fetchFrom(ip, 8080), "web");
});

test("a service has an address of each family, and its name resolves to both", needs, async () => {
  const { stdout } = await cluster.kubectl(["get", "service", "web", "-o", "json"]);
  const { spec } = JSON.parse(stdout) as { spec: { clusterIPs: string[] } };
  assert.equal(spec.clusterIPs.length, 2);
  for (const ip of spec.clusterIPs) assert.equal(await fetchFrom(ip, 80), "web");
  const lookup = await cluster.exec("default", "client", [
    "nslookup",
    "web.default.svc.cluster.local",
  ]);
  for (const ip of spec.clusterIPs) assert.match(lookup.stdout, new RegExp(`Address: ${ip}\\b`));
});

test("containerd and kubelet can be killed under running pods", needs, async () => {
  const node = cluster.node("node-b");
  for (const program of ["containerd", "kubelet"] as const) {
    await node.kill(program);
    assert.equal(await fetchFrom("web.default.svc.cluster.local", 80), "web");
    await node.start(program);
  }
  await cluster.waitFor("condition=Ready", "default", "pod/web");
  const { stdout } = await cluster.kubectl([
    ...["get", "pod", "web", "-o"],
    "jsonpath={.status.containerStatuses[0].restartCount}",
  ]);
  assert.equal(stdout, "0");
});

async function fetchFrom(host: string, port: number): Promise<string> {
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}/`;
  const argv = ["timeout", "5", "wget", "-q", "-O", "-", url];
  const { stdout, stderr } = await cluster.exec("default", "client", argv);
  return `${stdout}${stderr}`.trim();
}

function pod(name: string, nodeName: string): object {
  const serve = `mkdir -p /www && echo ${name} >/www/index.html && exec httpd -f -p 8080 -h /www`;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", labels: { app: name } },
    spec: {
      nodeName,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name,
          image: BUSYBOX_IMAGE,
          imagePullPolicy: "Never",
          command: ["sh", "-c", serve],
          readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
  };
}

const SERVICE = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web", namespace: "default" },
  spec: {
    ipFamilyPolicy: "RequireDualStack",
    selector: { app: "web" },
    ports: [{ port: 80, targetPort: 8080 }],
  },
};
