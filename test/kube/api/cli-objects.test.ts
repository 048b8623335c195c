// Commands that read and change the mesh's objects, on a real API server with objects made by hand.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { readFileSync, rmSync } from "node:fs";
import { ControlPlane } from "../control-plane.ts";
import { cliFor, json, type Cli } from "./cli-run.ts";

const LAUNCHER = new URL("../../../cli/bin/ambit", import.meta.url).pathname;

const SHOP = `
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: cart, namespace: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: till, namespace: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: cart-1, namespace: shop, labels: { app: cart, tier: back } }
spec:
  serviceAccountName: cart
  nodeName: a
  containers: [{ name: c, image: cart, env: [{ name: PASSWORD, value: hunter2 }] }]
---
apiVersion: v1
kind: Pod
metadata: { name: till-1, namespace: shop, labels: { app: till, tier: back } }
spec: { serviceAccountName: till, nodeName: a, containers: [{ name: c, image: till }] }
---
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { selector: { app: cart }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: back, namespace: shop }
spec: { selector: { tier: back }, ports: [{ name: http, port: 80 }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: viewer, namespace: shop }
spec:
  selector: { matchLabels: { app: cart } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/till] } }] }]
---
apiVersion: v1
kind: Secret
metadata: { name: password, namespace: shop }
stringData: { password: hunter3 }
`;

let api: ControlPlane;
let cli: Cli;
before(async () => {
  api = await ControlPlane.start({ crds: ["gateway-api", "ambit"] });
  cli = cliFor(api);
  const ran = await cli("apply -f -", { stdin: SHOP });
  assert.equal(ran.code, 0, ran.stderr);
  const ready = { status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] } };
  for (const pod of ["cart-1", "till-1"])
    await api.kubectl([
      ...["patch", "pod", pod, "-n", "shop", "--subresource", "status"],
      ...["-p", JSON.stringify(ready)],
    ]);
});
after(() => api[Symbol.asyncDispose]());

test("apply is server-side: unchanged the second time, of any kind, and named when refused", async () => {
  const again = await cli("apply -f -", { stdin: SHOP });
  assert.match(again.stdout, /pod\/cart-1 unchanged\n/);
  const quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: q, namespace: shop }\n";
  assert.equal((await cli("apply -f -", { stdin: quota })).stdout, "resourcequota/q created\n");
  const wrong =
    "apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: { ports: [{ prt: 1 }] }\n";
  const refused = await cli("apply -f -", { stdin: wrong });
  assert.deepEqual(
    [refused.code, /ports\[.*\]\.prt: field not declared/.test(refused.stderr)],
    [1, true],
    refused.stderr,
  );
  const unknown = await cli("apply -f -", {
    stdin: quota.replace("v1\nkind: R", "x.example.org/v1\nkind: R"),
  });
  assert.equal(unknown.code, 4, unknown.stderr);
});

test("enroll labels a namespace, and namespace list counts its pods", async () => {
  assert.match(
    (await cli("enroll ns/shop")).stdout,
    /^namespace\/shop enrolled \(0 pods captured, 2 pending\)/,
  );
  await api.kubectl([
    "annotate",
    "pod",
    "-n",
    "shop",
    "cart-1",
    "ambient.istio.io/redirection=enabled",
  ]);
  const listed = await cli("namespace list -n shop");
  assert.match(
    listed.stdout,
    /^NAMESPACE +MODE +PODS +CAPTURED +PENDING.*\nshop +ambient +2 +1 +1 +- +PERMISSIVE\n$/,
  );
  const { items } = await json<{ items: { name: string }[] }>(
    cli,
    "namespace list -l istio.io/dataplane-mode=ambient",
  );
  assert.deepEqual(
    items.map((i) => i.name),
    ["shop"],
  );
});

test("waypoint apply, list, status, delete for a namespace", async () => {
  const applied = await cli("waypoint apply -n shop --enroll-namespace");
  assert.equal(
    applied.stdout,
    "gateway.gateway.networking.k8s.io/waypoint created\nnamespace/shop labeled\n",
  );
  assert.match(applied.stderr, /C40 AuthorizationPolicy shop\/viewer does not admit the waypoint/);
  assert.match(
    (await cli("waypoint list -A")).stdout,
    /shop +waypoint +default +service \(default\) +False +0\/0 +namespace\/shop/,
  );
  const waiting = await cli("waypoint status -n shop --timeout 300ms");
  assert.equal(waiting.code, 5);
  assert.equal(waiting.stdout.trim().split("\n").length, 2); // one row, however often it looked
  await program("waypoint");
  assert.equal((await cli("waypoint status -n shop")).code, 0);
  assert.match((await cli("check -n shop --only C33")).stdout, /✔ C33/);
  await program("waypoint", "False");
  assert.match((await cli("check -n shop --only C33")).stdout, /‼ C33 [^]*has no ready pod/);
  const other = await cli("waypoint apply -n shop --name other --enroll-namespace");
  assert.equal(other.code, 1);
  assert.match(other.stderr, /namespace\/shop already has istio.io\/use-waypoint=waypoint/);
  assert.equal((await cli("waypoint delete nothing -n shop")).code, 4);
  const deleted = await cli("waypoint delete --all -n shop --unenroll");
  assert.equal(
    deleted.stdout,
    "namespace/shop unlabeled\ngateway.gateway.networking.k8s.io/waypoint deleted\n",
  );
});

test("a waypoint for a service account takes its services and pods, and leaves mixed services", async () => {
  const ran = await cli("waypoint apply -n shop --service-account cart");
  assert.equal(
    ran.stdout,
    "gateway.gateway.networking.k8s.io/cart-waypoint created\nservice/cart labeled\npod/cart-1 labeled\n",
  );
  assert.match(ran.stderr, /warning: service\/back is left out: pods of till stand behind it/);
  assert.match(
    (await cli("waypoint list -n shop -o wide")).stdout,
    /cart-waypoint +default +all .* cart\n/,
  );
  const near = await cli("waypoint apply -n shop --service-account crat");
  assert.deepEqual([near.code, /did you mean cart\?/.test(near.stderr)], [4, true]);
  await cli("waypoint delete cart-waypoint -n shop --unenroll");
});

test("describe says of pod, service and namespace what the mesh makes of them", async () => {
  await cli("waypoint apply -n shop --enroll-namespace");
  await program("waypoint");
  const pod = await cli("describe pod cart-1 -n shop");
  assert.match(pod.stdout, /^Pod shop\/cart-1 +node a .* sa cart\nCapture +enabled /);
  assert.match(pod.stdout, /Identity +spiffe:\/\/cluster.local\/ns\/shop\/sa\/cart/);
  assert.match(
    pod.stdout,
    /Waypoint +to-service: shop\/waypoint \(namespace label\) +to-pod: none/,
  );
  assert.match(
    pod.stdout,
    /L4 policy +ALLOW shop\/viewer \(selector\)\n +! viewer does not admit .*sa\/waypoint.*C40/,
  );
  assert.match((await cli("describe service cart.shop")).stdout, /Pods +1\/1 ready, 1 captured/);
  const { pods } = await json<{ pods: { captured: number } }>(cli, "describe namespace shop");
  assert.equal(pods.captured, 1);
  const near = await cli("describe pod crat-1 -n shop");
  assert.deepEqual([near.code, /did you mean cart-1\?/.test(near.stderr)], [4, true]);
  assert.equal((await cli("describe node nowhere")).code, 4);
});

test("check of a namespace finds the policy that shuts its waypoint out, and exits 3", async () => {
  const ran = await cli("check -n shop");
  assert.equal(ran.code, 3);
  assert.match(ran.stdout, /✖ C40 [^]*add the principal cluster.local\/ns\/shop\/sa\/waypoint/);
  const { success, categories } = await json<{
    success: boolean;
    categories: { checks: { id: string; result: string; hint?: string; object?: string }[] }[];
  }>(cli, "check -n shop --only C40");
  assert.equal(success, false);
  assert.deepEqual(
    categories.flatMap((c) => c.checks.map((k) => [k.id, k.result, k.object])),
    [["C40", "error", "authorizationpolicy/shop/viewer"]],
  );
});

test("completion offers what is in the cluster, and the contexts of the kubeconfig", async () => {
  const complete = (...words: string[]): string[] => {
    const env = {
      ...process.env,
      AMBIT_LAB: "",
      XDG_RUNTIME_DIR: api.dir,
      KUBECONFIG: api.kubeconfig,
    };
    const ran = spawnSync(LAUNCHER, ["__complete", ...words], { env, encoding: "utf8" });
    assert.deepEqual([ran.status, ran.stderr], [0, ""]);
    return ran.stdout.split("\n").filter((w) => w !== "");
  };
  assert.deepEqual(complete("contexts"), ["ambit-test"]);
  // a cluster that does not answer within a second has no names; a busy machine may need another try
  let pods: string[] = [];
  for (let i = 0; i < 10 && pods.length === 0; i++) pods = complete("pods", "shop");
  assert.deepEqual(pods, ["cart-1", "till-1"]);
  assert.deepEqual(complete("nonsense"), []);
});

test("bug-report holds objects and no secret", async () => {
  const file = join(api.dir, "report.tar.gz");
  const ran = await cli(`bug-report --out ${file} --include shop`);
  assert.equal(ran.code, 0, ran.stderr);
  const text = gunzipSync(readFileSync(file)).toString("latin1");
  assert.match(text, /namespaces\/shop\/pods.json/);
  assert.match(text, /"cart-1"/);
  assert.doesNotMatch(text, /hunter[23]|aHVudGVy/);
  assert.equal((await cli(`bug-report --out ${file}`)).code, 1); // nothing is overwritten
  rmSync(file);
});

/** What istiod would say of a waypoint that runs. */
async function program(name: string, programmed = "True"): Promise<void> {
  const status = {
    addresses: [{ type: "Hostname", value: `${name}.shop.svc.cluster.local` }],
    conditions: [
      {
        type: "Accepted",
        status: "True",
        reason: "Accepted",
        message: "",
        lastTransitionTime: NOW,
      },
      {
        type: "Programmed",
        status: programmed,
        reason: "Programmed",
        message: "",
        lastTransitionTime: NOW,
      },
    ],
  };
  await api.kubectl([
    ...["patch", "gateway", name, "-n", "shop", "--subresource", "status", "--type", "merge"],
    ...["-p", JSON.stringify({ status })],
  ]);
}

const NOW = "2026-06-01T12:00:00Z";
