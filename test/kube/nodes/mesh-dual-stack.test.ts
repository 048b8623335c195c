// A dual-stack cluster: both addresses of a pod are in the mesh.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { ask, idlePod, installMesh, serviceAccount, workloadPod } from "../mesh.ts";

const needs = await kubeSandbox();
let cluster: KubeCluster;
const client = { namespace: "shop", name: "client" };

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await KubeCluster.start({
    crds: ["gateway-api"],
    images: ["ambit", "workload"],
    ipFamily: "dual",
  });
  await installMesh(cluster);
  const labels = { "istio.io/dataplane-mode": "ambient" };
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels } });
  await cluster.apply(
    ...["web", "client"].map((name) => serviceAccount("shop", name)),
    workloadPod({ name: "web", namespace: "shop", node: "node-b", probes: PROBES }),
    idlePod({ ...client, node: "node-a" }),
  );
  await cluster.waitFor("condition=Ready", "shop", "pod/web", "pod/client");
});
after(() => cluster?.[Symbol.asyncDispose]());

const tcp = { tcpSocket: { port: 8080 }, periodSeconds: 1, failureThreshold: 2 };
const PROBES = { readinessProbe: tcp, livenessProbe: tcp };

test("both families of an enrolled pod are tunnelled, and its probes pass", needs, async () => {
  const { stdout } = await cluster.kubectl(["get", "pod", "-n", "shop", "web", "-o", "json"]);
  const { status } = JSON.parse(stdout) as { status: { podIPs: { ip: string }[] } };
  assert.equal(status.podIPs.length, 2);
  for (const { ip } of status.podIPs) {
    await using capture = await cluster.capture();
    const reply = await ask(cluster, client, ip, 8080, "not-for-everybody");
    assert.ok(reply.isAnswer, reply.text);
    assert.equal(await capture.contains("not-for-everybody"), false);
  }
});
