// The start-up taint: taken off where the CNI agent is ready, and only that one. And istiod as a program.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { RESOURCES } from "#lib/kube/objects.ts";
import { ControlPlane } from "../control-plane.ts";
import { account, IstiodRun, namespaced, put, runningPod, SYSTEM, until } from "./istiod-run.ts";

const MAIN = join(import.meta.dirname, "../../../istiod/main.ts");
const LABELS = { "k8s-app": "istio-cni-node" };

const MANIFESTS = join(import.meta.dirname, "../../../manifests");

let api: ControlPlane;
/** With what the manifests grant istiod, the component's right to nodes among it. */
let kubeconfig: string;

before(async () => {
  api = await ControlPlane.start();
  await put(api, namespaced(SYSTEM), account(SYSTEM, "istio-cni"));
  for (const rbac of ["base/istiod/rbac.yaml", "components/node-untaint/rbac.yaml"]) {
    const { code, stderr } = await api.kubectl(["apply", "-f", join(MANIFESTS, rbac)]);
    assert.equal(code, 0, stderr);
  }
  kubeconfig = await api.userKubeconfig({ serviceAccount: { namespace: SYSTEM, name: "istiod" } });
});
after(() => api[Symbol.asyncDispose]());

const node = (name: string): object => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name },
  spec: {
    taints: [
      { key: "cni.istio.io/not-ready", effect: "NoSchedule" },
      { key: "example.com/mine", effect: "NoSchedule" },
    ],
  },
});

test("the start-up taint goes where the agent is ready, and no other", async () => {
  await put(api, node("ready"), node("waiting"));
  await using istiod = await IstiodRun.start(api, {
    kubeconfig,
    env: { PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS: "true" },
  });
  const taints = async (name: string): Promise<string[]> => {
    const found = await istiod.cluster.get(RESOURCES.nodes, null, name);
    return (found?.spec?.taints ?? []).map(({ key }) => key);
  };
  const tainted = async (name: string): Promise<boolean> =>
    (await taints(name)).includes("cni.istio.io/not-ready");
  const agent = (on: string): object =>
    runningPod(SYSTEM, `istio-cni-${on}`, { account: "istio-cni", node: on, labels: LABELS });
  await put(api, agent("ready"), { ...agent("waiting"), status: { phase: "Pending" } });
  await until("the taint's end", async () => !(await tainted("ready")));
  assert.ok((await taints("ready")).includes("example.com/mine"));
  assert.ok(await tainted("waiting"));
  await put(api, agent("waiting"));
  await until("the other's", async () => !(await tainted("waiting")));
});

test("the program serves, and gives its locks back when it is told to stop", async (t) => {
  const { KUBECONFIG: _, MANIFEST_DIR: __, ...env } = process.env;
  const main = spawn(process.execPath, [MAIN], {
    env: {
      ...env,
      KUBECONFIG: api.kubeconfig,
      ISTIOD_ADDR: "127.0.0.1:0",
      MONITORING_ADDR: "127.0.0.1:0",
      ROOT_CA_DIR: "/nonexistent",
      POD_NAME: "istiod-program",
      LOG_FORMAT: "json",
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => main.kill("SIGKILL"));
  let text = "";
  main.stdout.on("data", (chunk) => (text += String(chunk)));
  await until(
    "its terms",
    () => text.includes("serving xds") && text.split('"leading"').length > 4,
  );
  main.kill("SIGTERM");
  const [code] = (await once(main, "exit")) as [number];
  assert.equal(code, 0);
  await using istiod = await IstiodRun.create(api);
  const lease = await istiod.cluster.get(RESOURCES.leases, SYSTEM, "istio-status-leader");
  assert.ok(lease !== null);
  assert.equal(lease.spec?.holderIdentity ?? "", "");
});

test("a mesh configuration that cannot be used ends the start with its line and field", async (t) => {
  const data = { mesh: "trustDomain: [1]\n" };
  const metadata = { name: "istio", namespace: SYSTEM };
  await put(api, { apiVersion: "v1", kind: "ConfigMap", metadata, data });
  await using istiod = await IstiodRun.create(api);
  t.after(() => api.kubectl(["delete", "configmap", "istio", "-n", SYSTEM]));
  await assert.rejects(istiod.app.start(), {
    code: "CONFIG_INVALID",
    message: /ConfigMap istio-system\/istio, mesh:1: trustDomain is not a text/,
  });
});
