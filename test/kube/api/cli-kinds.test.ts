// Kinds the mesh does not know, enrolment of what makes pods, waypoints for single objects, and clusters without a mesh.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect } from "../../../cli/kube/connect.ts";
import { checked, clusterPlace } from "../../../cli/kube/preview-cluster.ts";
import { previewMesh } from "../../../cli/kube/preview.ts";
import type { Globals } from "../../../cli/command.ts";
import type { Io } from "../../../cli/io.ts";
import { ControlPlane } from "../control-plane.ts";
import { cliFor, type Cli } from "./cli-run.ts";

const SHOP = `
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: cart, namespace: shop }
spec:
  selector: { matchLabels: { app: cart } }
  template:
    metadata: { labels: { app: cart } }
    spec: { containers: [{ name: c, image: cart }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: default, namespace: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: cart-1, namespace: shop, labels: { app: cart } }
spec: { nodeName: a, containers: [{ name: c, image: cart }] }
---
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { selector: { app: cart }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: ResourceQuota
metadata: { name: limits, namespace: shop }
spec: { hard: { pods: "10" } }
`;

let api: ControlPlane;
let cli: Cli;
before(async () => {
  api = await ControlPlane.start({ crds: ["gateway-api", "ambit"] });
  cli = cliFor(api);
  const ran = await cli("apply -f -", { stdin: SHOP });
  assert.equal(ran.code, 0, ran.stderr);
});
after(() => api[Symbol.asyncDispose]());

async function labels(kind: string, path: string): Promise<unknown> {
  const { stdout } = await api.kubectl(["get", kind, "-n", "shop", "-o", `jsonpath={${path}}`]);
  return JSON.parse(stdout === "" ? "{}" : stdout);
}

test("get and delete take any kind that is served, and name what comes near for any other", async () => {
  assert.match((await cli("get quota -n shop")).stdout, /^NAME +AGE\nlimits /);
  assert.match(
    (await cli("get deployments.v1.apps -n shop -o name")).stdout,
    /deployment.apps\/cart/,
  );
  const definition = await cli("get crd authorizationpolicies.security.istio.io -o json");
  assert.ok("spec" in (JSON.parse(definition.stdout) as object));
  assert.match((await cli("delete quota/limits -n shop")).stdout, /resourcequota\/limits deleted/);
  const unknown = await cli("get resourcequotaz -n shop");
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /serves no kind "resourcequotaz"[^]*did you mean resourcequota/);
});

test("enroll deploy/x labels the template, and restarts pods only when told to", async () => {
  const asks = await cli("enroll deploy/cart -n shop");
  assert.equal(asks.code, 2);
  assert.match(asks.stderr, /restarted to be enrolled[^]*add -y/);
  const mode = { app: "cart", "istio.io/dataplane-mode": "ambient" };
  const pods = await cli("enroll deploy/cart -n shop --no-template");
  assert.equal(pods.code, 0, pods.stderr);
  assert.match(pods.stderr, /No mesh in namespace istio-system[^]*ambit install/);
  assert.deepEqual(await labels("pod/cart-1", ".metadata.labels"), mode);
  assert.deepEqual(await labels("deploy/cart", ".spec.template.metadata.labels"), { app: "cart" });
  assert.equal((await cli("enroll deploy/cart -n shop -y")).code, 0);
  assert.deepEqual(await labels("deploy/cart", ".spec.template.metadata.labels"), mode);
  assert.match((await cli("enroll deploy/cart -n shop -y")).stdout, /already enrolled/);
  assert.equal((await cli("unenroll deploy/cart -n shop -y")).code, 0);
  assert.deepEqual(await labels("deploy/cart", ".spec.template.metadata.labels"), { app: "cart" });
});

test("waypoint apply --enroll and --replicas; enroll --waypoint wants one that is there", async () => {
  const missing = await cli("enroll ns/shop --waypoint door");
  assert.equal(missing.code, 4);
  assert.match(missing.stderr, /No waypoint door[^]*ambit waypoint apply -n shop --name door/);
  for (const [words, code] of [
    ["--enroll deploy/cart", 2],
    ["--enroll ns/default", 2],
    ["--enroll svc/nix", 4],
    ["--replicas 0", 2],
  ] as const)
    assert.equal((await cli(`waypoint apply -n shop ${words}`)).code, code, words);
  const made = await cli("waypoint apply -n shop --name door --enroll svc/cart --replicas 3");
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /door created\nconfigmap\/door-options created\nservice\/cart labeled/);
  assert.deepEqual(await labels("cm/door-options", ".data"), {
    deployment: "spec:\n  replicas: 3\n",
  });
  const { stdout } = await api.kubectl([
    ...["get", "cm/door-options", "-n", "shop"],
    ...["-o", "jsonpath={.metadata.ownerReferences[0].name}"],
  ]);
  assert.equal(stdout, "door");
  assert.match((await cli("waypoint apply -n shop --name door")).stdout, /door unchanged\n$/);
  assert.equal((await cli("enroll ns/shop --waypoint door")).code, 0);
  const described = await cli("describe namespace shop");
  assert.match(described.stdout, /asks for shop\/door/);
});

test("without a mesh, what asks it says how to get one", async () => {
  for (const line of ["zc workload", "tunnels", "proxy-status", "status"]) {
    const ran = await cli(line);
    assert.equal(ran.code, 4, `${line}: ${ran.stderr}`);
    assert.match(ran.stderr, /No mesh in namespace istio-system[^]*ambit install/, line);
  }
  for (const line of ["namespace list", "waypoint list -A", "describe service cart -n shop"]) {
    const ran = await cli(line);
    assert.equal(ran.code, 0, `${line}: ${ran.stderr}`);
    assert.match(ran.stderr, /warning: No mesh [^]*ambit install/, line);
  }
  assert.match((await cli("version")).stderr, /ambit install/);
});

test("a preview of the cluster's objects with a manifest, which the API server checks first", async () => {
  const flags = { kubeconfig: api.kubeconfig, verbose: false, timeout: 15_000 } as Globals;
  const kube = await connect(flags, { err: () => {} } as unknown as Io);
  using _server = kube.server;
  const policy = (spec: object): object => ({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "deny", namespace: "shop" },
    spec,
  });
  const rules = [{ from: [{ source: { namespaces: ["street"] } }] }];
  const [good, bad] = [policy({ action: "DENY", rules }), policy({ action: "NO" })];
  await assert.rejects(checked(kube, [bad as never]), { code: "INVALID" });
  const { objects, unchecked } = await checked(kube, [good as never]);
  assert.deepEqual(unchecked, []);
  const options = { namespace: undefined, timeoutMs: 60_000, signal: AbortSignal.timeout(60_000) };
  const preview = await previewMesh(clusterPlace(kube), objects, options);
  assert.deepEqual(preview.applied, [
    { object: "authorizationpolicy.security.istio.io/deny", change: "created" },
  ]);
  assert.ok(preview.tables.findService("shop", "cart.shop.svc.cluster.local") !== null);
  assert.equal((await cli("get ap deny -n shop")).code, 4);
});
