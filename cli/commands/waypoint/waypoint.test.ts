// Waypoint commands, describe and namespace list on a lab's manifests: the same code as in a cluster, without one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ambit } from "../../testdata/run-command.ts";
import { testLab, type TestLab } from "../../testdata/test-lab.ts";

const SHOP = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: cart, namespace: shop }
spec: { selector: { matchLabels: { app: cart } }, template: { metadata: { labels: { app: cart } } } }
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: cart-6d
  namespace: shop
  ownerReferences: [{ apiVersion: apps/v1, kind: Deployment, name: cart, uid: u1, controller: true }]
---
apiVersion: v1
kind: Pod
metadata:
  name: cart-6d-x
  namespace: shop
  labels: { app: cart }
  ownerReferences: [{ apiVersion: apps/v1, kind: ReplicaSet, name: cart-6d, uid: u2, controller: true }]
spec: { serviceAccountName: cart, nodeName: a }
status: { phase: Running, podIP: 10.244.1.7, conditions: [{ type: Ready, status: "True" }] }
---
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { selector: { app: cart }, ports: [{ port: 80 }] }
`;

async function shop(): Promise<TestLab> {
  const lab = await testLab();
  const ran = await lab.run("apply -f -", { stdin: SHOP });
  assert.equal(ran.code, 0, ran.stderr);
  return lab;
}

test("generate prints istioctl's Gateway, without a namespace unless it is asked for", async () => {
  assert.equal(
    (await ambit("waypoint generate --for all -r canary")).stdout,
    `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: waypoint
  labels:
    istio.io/waypoint-for: all
    istio.io/rev: canary
spec:
  gatewayClassName: istio-waypoint
  listeners:
    - name: mesh
      port: 15008
      protocol: HBONE
`,
  );
  assert.match((await ambit("waypoint generate -n shop")).stdout, /\n {2}namespace: shop\n/);
});

test("pod templates are labelled only when pods may restart", async () => {
  await using lab = await shop();
  const apply = "waypoint apply -n shop --service-account cart";
  const asked = await lab.run(apply);
  assert.equal(asked.code, 2);
  assert.match(asked.stderr, /restarts the pods of deployment\/cart \(--no-template [^]*-y/);
  assert.equal((await lab.run("get gateways -A -o name")).stdout, ""); // nothing was changed
  const plain = await lab.run(`${apply} --no-template`);
  assert.equal(
    plain.stdout,
    "gateway.gateway.networking.k8s.io/cart-waypoint created\nservice/cart labeled\npod/cart-6d-x labeled\n",
  );
  const whole = await lab.run(`${apply} -y`);
  assert.match(
    whole.stdout,
    /pod\/cart-6d-x unchanged\ndeployment.apps\/cart \(pod template\) labeled\n$/,
  );
  const gone = await lab.run("waypoint delete cart-waypoint -n shop --unenroll");
  assert.match(gone.stdout, /deployment.apps\/cart \(pod template\) unlabeled\n/);
  assert.doesNotMatch(
    (await lab.run("get deployments cart -n shop -o yaml")).stdout,
    /use-waypoint/,
  );
});

test("a dry run changes nothing, and delete names who still asks", async () => {
  await using lab = await shop();
  const dry = await lab.run("waypoint apply -n shop --enroll-namespace --dry-run");
  assert.match(dry.stdout, /waypoint created \(dry run\)\nnamespace\/shop labeled \(dry run\)/);
  assert.equal((await lab.run("get gateways -A -o name")).stdout, "");
  await lab.run("waypoint apply -n shop --enroll-namespace");
  const deleted = await lab.run("waypoint delete waypoint -n shop");
  assert.match(deleted.stderr, /warning: namespace\/shop still asks for it/);
  const other =
    "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: edge, namespace: shop }\nspec: { gatewayClassName: istio }\n";
  await lab.run("apply -f -", { stdin: other });
  const refused = await lab.run("waypoint delete edge -n shop");
  assert.deepEqual([refused.code, /no waypoint/.test(refused.stderr)], [2, true]);
  assert.equal((await lab.run("waypoint delete --all -n shop")).stdout, ""); // edge is none
  assert.equal(
    (await lab.run("get gateways -n shop -o name")).stdout,
    "gateway.gateway.networking.k8s.io/edge\n",
  );
});

test("delete --unenroll takes labels away after the Gateway is gone, and needs one of both", async () => {
  await using lab = await shop();
  await lab.run("waypoint apply -n shop --enroll-namespace");
  assert.equal((await lab.run("delete gateway waypoint -n shop")).code, 0);
  const leave = "waypoint delete waypoint -n shop --unenroll";
  const dry = await lab.run(`${leave} --dry-run`);
  assert.deepEqual([dry.code, dry.stdout], [0, "namespace/shop unlabeled (dry run)\n"]);
  assert.equal((await lab.run("waypoint delete waypoint -n shop")).code, 4);
  const left = await lab.run(leave);
  assert.deepEqual([left.code, left.stdout], [0, "namespace/shop unlabeled\n"], left.stderr);
  assert.match(left.stderr, /gateway.gateway.networking.k8s.io\/waypoint is not there/);
  assert.doesNotMatch((await lab.run("get ns shop -o yaml")).stdout, /use-waypoint/);
  const again = await lab.run(leave);
  assert.deepEqual([again.code, again.stdout], [4, ""]);
});

test("describe and namespace list read a lab as well", async () => {
  await using lab = await shop();
  assert.match((await lab.run("namespace list")).stdout, /shop +ambient +1 +0 +1 +- +PERMISSIVE/);
  const pod = await lab.run("describe pod cart-6d-x.shop");
  assert.match(
    pod.stdout,
    /^Pod shop\/cart-6d-x +node a +ip 10.244.1.7 +sa cart\nCapture +pending /,
  );
  assert.match(pod.stderr, /warning: the ztunnel of node a did not answer/);
  assert.match(
    (await lab.run("describe service cart -n shop")).stdout,
    /Pods +1\/1 ready, 0 captured/,
  );
});

test("get --watch goes on with what changes, until it is interrupted", {
  timeout: 20_000,
}, async () => {
  await using lab = await shop();
  const stop = new AbortController();
  const chunks: string[] = [];
  const onOut = (chunk: string): void => {
    chunks.push(chunk);
    if (chunks.length === 1) changed = lab.run("label pod cart-6d-x -n shop x=y");
    else stop.abort();
  };
  let changed: Promise<unknown> = Promise.resolve();
  const { code } = await lab.run("get pods -n shop --watch", { signal: stop.signal, onOut });
  await changed;
  assert.equal(code, 130);
  assert.match(chunks[0] ?? "", /^NAME +READY[^\n]*\ncart-6d-x +1\/1[^\n]*\n$/);
  assert.match(chunks[1] ?? "", /^cart-6d-x +1\/1[^\n]*\n$/);
});
