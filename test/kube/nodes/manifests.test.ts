// The manifests on real nodes: what `kubectl apply -k` brings becomes ready, carries the sample shop, and does all of it
// with the rights it was given: none is missing, none is there for nothing.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";

const needs = await kubeSandbox();
const MANIFESTS = join(import.meta.dirname, "../../../manifests");
const SHOP = join(MANIFESTS, "samples/shop");
const OURS = /^system:serviceaccount:istio-system:(istiod|istio-cni|ztunnel)$/;
let cluster: KubeCluster;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await KubeCluster.start({
    nodes: 2,
    images: ["ambit"],
    crds: ["gateway-api"],
    auditLog: true,
  });
});
after(() => cluster?.[Symbol.asyncDispose]());

async function kubectl(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await cluster.api.kubectl(args);
  assert.equal(code, 0, `kubectl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

async function apply(...objects: readonly object[]): Promise<void> {
  const stdin = objects.map((o) => JSON.stringify(o)).join("\n---\n");
  const { code, stderr } = await cluster.api.kubectl(["apply", "-f", "-"], { stdin });
  assert.equal(code, 0, stderr);
}

const rollout = (namespace: string, ...names: readonly string[]): Promise<string[]> =>
  Promise.all(
    names.map((name) => kubectl("rollout", "status", "--timeout=50s", "-n", namespace, name)),
  );

/** What a pod of the shop is told by the server, or the reason it is told nothing. */
async function ask(namespace: string, deployment: string, url: string): Promise<string> {
  const args = [
    "exec",
    "-n",
    namespace,
    `deploy/${deployment}`,
    "--",
    "node",
    "/shop/ask.mjs",
    url,
  ];
  return (await cluster.api.kubectl(args)).stdout.trim();
}

test("all parts become ready, and the shop opens", { ...needs, timeout: 120_000 }, async () => {
  await kubectl("apply", "--server-side", "-k", join(MANIFESTS, "overlays/kind"));
  await rollout("istio-system", "deploy/istiod", "ds/istio-cni-node", "ds/ztunnel");
  await kubectl("apply", "--server-side", "-k", SHOP);
  await rollout("shop", "deploy/client", "deploy/visitor", "deploy/server-v1", "deploy/server-v2");
  await rollout("street", "deploy/stranger");
  assert.match(await ask("street", "stranger", "http://server.shop"), /^server v[12] on /);
});

test("the story of the samples", { ...needs, timeout: 120_000 }, async () => {
  await kubectl("label", "namespace", "shop", "istio.io/dataplane-mode=ambient");
  await cluster.until("all pods of the shop to be captured", async () => {
    const path = "jsonpath={.items[*].metadata.annotations.ambient\\.istio\\.io/redirection}";
    return (
      (await kubectl("get", "pods", "-n", "shop", "-o", path)) ===
      Array(4).fill("enabled").join(" ")
    );
  });
  assert.match(await ask("shop", "visitor", "http://server"), /^server v[12] on /);
  await kubectl("apply", "-f", join(SHOP, "policy-deny-visitor.yaml"));
  await cluster.until("the visitor to be denied", async () =>
    (await ask("shop", "visitor", "http://server")).startsWith("failed:"),
  );
  await kubectl("apply", "-f", join(SHOP, "policy-strict.yaml"));
  await cluster.until("the stranger to be refused", async () =>
    (await ask("street", "stranger", "http://server.shop")).startsWith("failed:"),
  );
  assert.match(await ask("shop", "client", "http://server"), /^server v[12] on /);
  await kubectl("apply", "-f", join(SHOP, "waypoint.yaml"));
  await kubectl(
    "wait",
    "--for=condition=Programmed",
    "--timeout=60s",
    "-n",
    "shop",
    "gateway/server-waypoint",
  );
});

test("every right is there, and every right is used", { ...needs, timeout: 180_000 }, async () => {
  await rarerWork();
  const used = new Set<string>();
  const refused = new Set<string>();
  for (const e of await cluster.api.auditEvents()) {
    const account = OURS.exec(e.user.username)?.[1];
    const { apiGroup = "", resource, subresource } = e.objectRef ?? {};
    if (account === undefined || resource === undefined) continue;
    const target = `${account} ${apiGroup}/${resource}${subresource === undefined ? "" : `/${subresource}`}`;
    const code = e.responseStatus?.code ?? 0;
    if (code === 403) refused.add(`${target} ${e.verb}`);
    used.add(`${target} ${e.verb}`);
    // a server-side apply of what is not there needs the right to create it
    if (e.verb === "patch" && code === 201) used.add(`${target} create`);
  }
  assert.deepEqual([...refused], [], "rights that are missing");
  const unused = (await granted()).filter((right) => !used.has(right) && !RARE.has(right));
  assert.deepEqual(unused, [], "rights nobody needs");
});

/** Rights for what this test does not wait for; api/istiod-rights.test.ts does for istiod's. */
const RARE = new Set([
  // the root's renewal, years from now
  "istiod /secrets patch",
  // says of a malformed policy that it is
  "istiod security.istio.io/peerauthentications get",
  "istiod security.istio.io/peerauthentications/status patch",
  // follows a CA of the user's own, once there is one
  "istiod /secrets list",
  "istiod /secrets watch",
  // before a write to what the cache has not seen yet
  "istiod /serviceaccounts get",
  "istiod /services get",
  "istiod apps/deployments get",
  "istiod autoscaling/horizontalpodautoscalers get",
  "istiod policy/poddisruptionbudgets get",
  // asked by the plugin while no agent answers, and by an agent whose watch lags behind
  "istio-cni /pods get",
  "istio-cni /namespaces get",
]);

async function rarerWork(): Promise<void> {
  const patch = JSON.stringify({ data: { "root-cert.pem": "not this" } });
  await kubectl("patch", "configmap", "-n", "shop", "istio-ca-root-cert", "-p", patch);
  await kubectl("delete", "configmap", "-n", "street", "istio-ca-root-cert");
  const overlay = { name: "sizes", namespace: "shop" };
  const rules = {
    horizontalPodAutoscaler: "spec: {maxReplicas: 2}",
    podDisruptionBudget: "spec: {minAvailable: 1}",
  };
  const use = { "istio.io/use-waypoint": "server-waypoint" };
  const networking = "networking.istio.io/v1";
  await apply(
    { apiVersion: "v1", kind: "ConfigMap", metadata: overlay, data: rules },
    {
      apiVersion: networking,
      kind: "ServiceEntry",
      metadata: { name: "outside", namespace: "shop", labels: use },
      spec: {
        hosts: ["api.example.com"],
        ports: [{ number: 443, name: "tls", protocol: "TLS" }],
        resolution: "DNS",
      },
    },
    {
      apiVersion: networking,
      kind: "WorkloadEntry",
      metadata: { name: "vm", namespace: "shop", labels: use },
      spec: { address: "192.0.2.1" },
    },
  );
  await kubectl(
    "label",
    "service",
    "-n",
    "shop",
    "server",
    "istio.io/use-waypoint=server-waypoint",
  );
  const parameters = { group: "", kind: "ConfigMap", name: "sizes" };
  await kubectl(
    "patch",
    "gateway",
    "-n",
    "shop",
    "server-waypoint",
    "--type=merge",
    "-p",
    JSON.stringify({ spec: { infrastructure: { parametersRef: parameters } } }),
  );
  const restarted = ["deploy/istiod", "ds/istio-cni-node", "ds/ztunnel"];
  await kubectl("rollout", "restart", "-n", "istio-system", ...restarted);
  await rollout("istio-system", ...restarted);
  await cluster.until("the autoscaler and the budget of the waypoint", async () => {
    const made = await kubectl("get", "hpa,pdb", "-n", "shop", "-o", "name");
    return made.trim().split("\n").length === 2;
  });
  await cluster.until("the root certificate where it was damaged", async () => {
    const path = "jsonpath={.data.root-cert\\.pem}";
    const args = ["get", "configmap", "istio-ca-root-cert", "-o", path, "-n"];
    const [shop, street] = await Promise.all([
      kubectl(...args, "shop"),
      kubectl(...args, "street"),
    ]);
    return shop.includes("BEGIN CERTIFICATE") && street === shop;
  });
}

interface RbacObject {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules?: readonly Record<"apiGroups" | "resources" | "verbs", readonly string[]>[];
  readonly roleRef?: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly name: string }[];
}

/** `account group/resource verb`, as the manifests give it. */
async function granted(): Promise<string[]> {
  const text = await kubectl("kustomize", join(MANIFESTS, "overlays/kind"));
  const objects = parseAllDocuments(text).map((d) => d.toJS() as RbacObject);
  const rights: string[] = [];
  for (const { roleRef, subjects = [] } of objects) {
    if (roleRef === undefined) continue;
    const role = objects.find((o) => o.kind === roleRef.kind && o.metadata.name === roleRef.name);
    for (const { name } of subjects)
      for (const { apiGroups, resources, verbs } of role?.rules ?? [])
        for (const group of apiGroups)
          for (const resource of resources)
            for (const verb of verbs) rights.push(`${name} ${group}/${resource} ${verb}`);
  }
  return [...new Set(rights)];
}
