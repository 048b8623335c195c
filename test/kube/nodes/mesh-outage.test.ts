// The mesh while its control plane, or Kubernetes' own, is away; on a dual-stack cluster.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import {
  ask,
  idlePod,
  installMesh,
  rolledOut,
  service,
  serviceAccount,
  workloadPod,
} from "../mesh.ts";

const needs = await kubeSandbox();
let cluster: KubeCluster;
const WEB = "web.shop.svc.cluster.local";
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
    ...["web", "client", "late"].map((name) => serviceAccount("shop", name)),
    service("shop", "web"),
    service("shop", "late"),
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

test(
  "without istiod traffic goes on, and what changed meanwhile is caught up with",
  needs,
  async () => {
    await cluster.kubectl(["scale", "deployment/istiod", "-n", "istio-system", "--replicas=0"]);
    await cluster.kubectl([
      ...["wait", "--for=delete", "pod", "-l", "app=istiod"],
      ...["-n", "istio-system", "--timeout=60s"],
    ]);
    assert.ok((await ask(cluster, client, WEB, 80, "alone")).isAnswer);
    await cluster.apply(workloadPod({ name: "late", namespace: "shop", node: "node-b" }));
    await cluster.kubectl(["scale", "deployment/istiod", "-n", "istio-system", "--replicas=1"]);
    await rolledOut(cluster, ["deployment/istiod"]);
    await cluster.waitFor("condition=Ready", "shop", "pod/late");
    const late = "late.shop.svc.cluster.local";
    await using capture = await cluster.capture();
    await cluster.until("the new pod to answer", async () => {
      return (await ask(cluster, client, late, 80, "caught-up")).isAnswer;
    });
    assert.equal(await capture.contains("caught-up"), false);
  },
);

test("a restarted API server and deleted leases are not noticed by traffic", needs, async () => {
  await cluster.kubectl(["delete", "leases", "--all", "-n", "istio-system"]);
  await cluster.api.restart();
  assert.ok((await ask(cluster, client, WEB, 80, "still-here")).isAnswer);
  const deny = {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "nobody", namespace: "shop" },
    spec: { action: "DENY", rules: [{ from: [{ source: { namespaces: ["shop"] } }] }] },
  };
  await cluster.apply(deny);
  await cluster.until("the new policy to be enforced", async () => {
    return !(await ask(cluster, client, WEB, 80, "refused")).isAnswer;
  });
  await cluster.kubectl(["delete", "authorizationpolicy", "-n", "shop", "nobody"]);
  await cluster.until("its end to be noticed", async () => {
    return (await ask(cluster, client, WEB, 80, "welcome")).isAnswer;
  });
});
