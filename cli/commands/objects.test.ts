// get, apply, delete, label, enroll and unenroll on a manifest directory.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { testLab, type TestLab } from "../testdata/test-lab.ts";

const SHOP = `
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: shop, labels: { app: client } }
spec: { nodeName: a }
status: { phase: Running, podIP: 10.244.1.2, conditions: [{ type: Ready, status: "True" }] }
---
apiVersion: v1
kind: Pod
metadata: { name: agent, namespace: shop }
spec: { nodeName: b, hostNetwork: true }
status: { phase: Running }
`;

const POLICY = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny-client, namespace: shop }
spec:
  action: DENY
  selector: { matchLabels: { app: server } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }] }]
`;

async function shop(): Promise<TestLab> {
  const lab = await testLab();
  const ran = await lab.run("apply -f -", { stdin: SHOP });
  assert.equal(ran.code, 0, ran.stderr);
  return lab;
}

test("apply creates, configures, and leaves unchanged what is equal", async () => {
  await using lab = await shop();
  const policy = (change: string): string =>
    `authorizationpolicy.security.istio.io/deny-client ${change}\n`;
  assert.equal((await lab.run("apply -f -", { stdin: POLICY })).stdout, policy("created"));
  assert.equal((await lab.run("apply -f -", { stdin: POLICY })).stdout, policy("unchanged"));
  const without = POLICY.replace(/ {2}selector.*\n/, "");
  assert.equal(
    (await lab.run("apply -f - --dry-run", { stdin: without })).stdout,
    policy("configured (dry run)"),
  );
  assert.equal((await lab.run("apply -f -", { stdin: without })).stdout, policy("configured"));
  const stored = await lab.run("get ap deny-client -n shop -o json");
  const { spec } = JSON.parse(stored.stdout) as { spec: Record<string, unknown> };
  assert.deepEqual(Object.keys(spec).sort(), ["action", "rules"]); // the selector is gone
});

test("apply keeps what others wrote: labels, annotations, status", async () => {
  await using lab = await shop();
  const cluster = new DirectoryCluster(lab.manifestDir);
  const patch = { metadata: { annotations: { "ambient.istio.io/redirection": "enabled" } } };
  await cluster.patch(RESOURCES.pods, "shop", "client", patch, { fieldManager: "cni" });
  const again = await lab.run("apply -f -", { stdin: SHOP });
  assert.match(again.stdout, /pod\/client unchanged/);
});

test("a manifest with a mistake changes nothing and names file, line and field", async () => {
  await using lab = await shop();
  const broken = `${POLICY}---\napiVersion: v1\nkind: Service\nmetadata: { name: s }\nspec:\n  ports: [{ port: many }]\n`;
  const ran = await lab.run("apply -f -", { stdin: broken });
  assert.equal(ran.code, 1);
  assert.match(ran.stderr, /stdin:\d+: .*port/);
  assert.equal((await lab.run("get ap -A -o name")).stdout, "");
});

test("get prints kubectl's columns and finds what is near", async () => {
  await using lab = await shop();
  const pods = await lab.run("get pods -n shop");
  assert.match(
    pods.stdout,
    /^NAME +READY +STATUS +MESH +AGE\nagent +0\/1 +Running +- .*\nclient +1\/1 +Running +- /,
  );
  assert.match(
    (await lab.run("get po client -n shop -o wide")).stdout,
    /10\.244\.1\.2 +a +default/,
  );
  assert.match((await lab.run("get ns")).stdout, /NAME +STATUS +MODE +AGE\nshop +Active +- /);
  assert.equal((await lab.run("get pods -A -l app=client -o name")).stdout, "pod/client\n");
  const near = await lab.run("get pod clint -n shop");
  assert.deepEqual([near.code, /did you mean client\?/.test(near.stderr)], [4, true]);
  const elsewhere = await lab.run("get pod client");
  assert.match(elsewhere.stderr, /there is one in namespace shop: add -n shop/);
});

test("label sets, refuses to overwrite, overwrites, removes", async () => {
  await using lab = await shop();
  const label = async (rest: string): Promise<string> => {
    const ran = await lab.run(`label namespace shop ${rest}`);
    return ran.stdout === "" ? `${ran.code} ${ran.stderr.split("\n")[0]}` : ran.stdout.trim();
  };
  assert.equal(await label("istio.io/dataplane-mode=ambient"), "namespace/shop labeled");
  assert.equal(await label("istio.io/dataplane-mode=ambient"), "namespace/shop not labeled");
  assert.equal(
    await label("istio.io/dataplane-mode=none"),
    "1 error: namespace/shop already has istio.io/dataplane-mode=ambient",
  );
  assert.equal(await label("istio.io/dataplane-mode=none --overwrite"), "namespace/shop labeled");
  assert.equal(
    await label("istio.io/dataplane-mode- --dry-run"),
    "namespace/shop unlabeled (dry run)",
  );
  assert.equal(await label("istio.io/dataplane-mode-"), "namespace/shop unlabeled");
});

test("delete by name and by manifest; a missing object deletes nothing", async () => {
  await using lab = await shop();
  const missing = await lab.run("delete pod client nobody -n shop");
  assert.equal(missing.code, 4);
  assert.match((await lab.run("get pods -n shop -o name")).stdout, /pod\/client/);
  assert.equal((await lab.run("delete pod/client -n shop")).stdout, "pod/client deleted\n");
  const rest = await lab.run("delete -f - --ignore-not-found", { stdin: SHOP });
  assert.equal(rest.stdout, "namespace/shop deleted\npod/agent deleted\n");
});

test("enroll labels the namespace and says which pods it cannot take", async () => {
  await using lab = await shop();
  const foreseen = await lab.run("enroll ns/shop --dry-run");
  assert.equal(foreseen.stdout, "namespace/shop enrolled (dry run: would capture 1 pod)\n");
  const ran = await lab.run("enroll ns/shop");
  assert.equal(
    ran.stdout,
    "namespace/shop enrolled (0 pods captured, 1 pending, 1 skipped: hostNetwork)\n",
  );
  const again = await lab.run("enroll ns/shop -o json");
  const { items } = JSON.parse(again.stdout) as { items: { change: string }[] };
  assert.equal(items[0]?.change, "unchanged");
});

test("enroll --wait returns when the agent has captured the pods, and times out by name", async () => {
  await using lab = await shop();
  const late = await lab.run("enroll ns/shop --wait --timeout 300ms");
  assert.equal(late.code, 5);
  assert.match(late.stderr, /1 pod\(s\) of shop not captured within 300 ms: client/);
  const waiting = lab.run("enroll ns/shop --wait --timeout 10s");
  await redirect(lab, "enabled");
  assert.equal(
    (await waiting).stdout,
    "namespace/shop already enrolled (1 pod captured, 1 skipped: hostNetwork)\n",
  );
  const leaving = lab.run("unenroll ns/shop --wait --timeout 10s");
  await redirect(lab, null);
  assert.equal((await leaving).stdout, "namespace/shop unenrolled (1 pod outside the mesh)\n");
});

test("a pod opts out of an enrolled namespace with the label none", async () => {
  await using lab = await shop();
  await lab.run("enroll ns/shop");
  const out = await lab.run("unenroll pod/client -n shop");
  assert.equal(out.stdout, "pod/client unenrolled (1 pod outside the mesh)\n");
  const stored = JSON.parse((await lab.run("get pod client -n shop -o json")).stdout) as {
    metadata: { labels: Record<string, string> };
  };
  assert.equal(stored.metadata.labels["istio.io/dataplane-mode"], "none");
});

test("a pod left out with --exclude is not captured", async () => {
  await using lab = await shop();
  const ran = await lab.run("enroll ns/shop --exclude pod/client");
  assert.equal(
    ran.stdout,
    "namespace/shop enrolled (0 pods captured, 2 skipped: hostNetwork, opted out)\n",
  );
});

test("what cannot be enrolled is refused with what can", async () => {
  await using lab = await shop();
  const kind = await lab.run("enroll svc/web");
  assert.deepEqual([kind.code, /enrol its namespace/.test(kind.stderr)], [2, true]);
  const near = await lab.run("enroll ns/shpo");
  assert.deepEqual([near.code, /did you mean shop\?/.test(near.stderr)], [4, true]);
});

async function redirect(lab: TestLab, value: string | null): Promise<void> {
  const cluster = new DirectoryCluster(lab.manifestDir);
  const patch = { metadata: { annotations: { "ambient.istio.io/redirection": value } } };
  await cluster.patch(RESOURCES.pods, "shop", "client", patch, { fieldManager: "cni" });
}
