// What istiod follows while it runs: the mesh configuration, kinds that appear, an API server that goes and
// comes back, and objects that got past admission though nobody can read them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Condition, RESOURCES } from "#lib/kube/objects.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import { ControlPlane } from "../control-plane.ts";
import {
  account,
  IstiodRun,
  namespaced,
  policy,
  put,
  runningPod,
  SYSTEM,
  until,
} from "./istiod-run.ts";

let api: ControlPlane;
let istiod: IstiodRun;

const mesh = (text: string): object => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "istio", namespace: SYSTEM },
  data: { mesh: text },
});
const DENY = { action: "DENY", rules: [{ from: [{ source: { namespaces: ["x"] } }] }] };

before(async () => {
  api = await ControlPlane.start();
  await put(api, namespaced(SYSTEM), namespaced("shop", { mesh: "on" }), namespaced("other"));
  await put(
    api,
    account(SYSTEM, "ztunnel"),
    account("shop", "default"),
    account("other", "default"),
  );
  await put(api, mesh("trustDomain: first.example\n"));
  await put(
    api,
    runningPod("shop", "web-1", { ip: "10.244.1.7" }),
    runningPod("other", "job-1", { ip: "10.244.1.8" }),
  );
  istiod = await IstiodRun.start(api);
});
after(async () => {
  await istiod[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

const inForce = async (): Promise<string> => {
  const page = (await (await istiod.get("/debug/configz")).json()) as {
    config: { mesh: { trustDomain: string } };
  };
  return page.config.mesh.trustDomain;
};

test("without any of the mesh's definitions istiod is ready, and takes them when they come", async () => {
  assert.equal((await istiod.get("/ready")).status, 200);
  const held = await istiod.xds(ADDRESS_TYPE, AUTHORIZATION_TYPE);
  await until("the pod", () => held.has("Kubernetes//Pod/shop/web-1"));
  await api.applyCrds("istio", "gateway-api");
  await put(api, policy("shop", "deny", DENY));
  await until("the policy", () => held.has("shop/deny"));
  const status = async (): Promise<readonly Condition[]> =>
    (await istiod.cluster.get(RESOURCES.authorizationPolicies, "shop", "deny"))?.status
      ?.conditions ?? [];
  await until("its status", async () => (await status())[0]?.type === "ZtunnelAccepted");
});

test("the mesh configuration is followed; what is wrong with it is named and changes nothing", async () => {
  assert.equal(await inForce(), "first.example");
  await put(api, mesh("trustDomain: second.example\n"));
  await until("the new one", async () => (await inForce()) === "second.example");
  await put(api, mesh("rootNamespace: r\ntrustDomain: []\n"));
  await until("the fault", () => istiod.lines("mesh configuration refused").length > 0);
  assert.match(
    String(istiod.lines("mesh configuration refused")[0]?.["reason"]),
    /ConfigMap istio-system\/istio, mesh:2: trustDomain is not a text/,
  );
  assert.equal(await inForce(), "second.example");
  await api.kubectl(["delete", "configmap", "istio", "-n", SYSTEM]);
  await until("its end", () => istiod.lines("mesh configuration refused").length > 1);
  assert.equal(await inForce(), "second.example");
});

test("only selected namespaces are in the mesh, and get its root", async () => {
  const held = await istiod.xds(ADDRESS_TYPE);
  await until(
    "both pods",
    () => held.resources.size >= 2 && held.has("Kubernetes//Pod/other/job-1"),
  );
  const selector = "discoverySelectors: [{matchLabels: {mesh: 'on'}}]\n";
  await put(api, mesh(`trustDomain: second.example\n${selector}`));
  await until("the pod's end", () => !held.has("Kubernetes//Pod/other/job-1"));
  assert.ok(held.has("Kubernetes//Pod/shop/web-1"));
  await istiod.cluster.delete(RESOURCES.configMaps, "other", "istio-ca-root-cert");
  await istiod.cluster.delete(RESOURCES.configMaps, "shop", "istio-ca-root-cert");
  await until("the root", async () => (await istiod.configMap("shop")) !== null);
  assert.equal(await istiod.configMap("other"), null);
  await api.kubectl(["label", "namespace", "other", "mesh=on"]);
  await until("the pod again", () => held.has("Kubernetes//Pod/other/job-1"));
  await until("the root too", async () => (await istiod.configMap("other")) !== null);
});

test("an API server that restarts takes nothing away, and its changes arrive afterwards", async () => {
  const held = await istiod.xds(ADDRESS_TYPE);
  await until("the pod", () => held.has("Kubernetes//Pod/shop/web-1"));
  await api.stopApiServer();
  assert.equal((await istiod.get("/ready")).status, 200);
  assert.ok(held.has("Kubernetes//Pod/shop/web-1"));
  await api.startApiServer();
  await put(api, runningPod("shop", "web-2", { ip: "10.244.1.9" }));
  await until("the new pod", () => held.has("Kubernetes//Pod/shop/web-2"), 15_000);
  assert.ok(held.has("Kubernetes//Pod/shop/web-1"));
});
