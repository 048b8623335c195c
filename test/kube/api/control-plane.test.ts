// The API server that controllers are tested against: what a test may rely on.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ControlPlane } from "../control-plane.ts";

let api: ControlPlane;

before(async () => {
  api = await ControlPlane.start({ crds: ["gateway-api", "istio"], auditLog: true });
});
after(() => api[Symbol.asyncDispose]());

test("the definitions asked for are served", async () => {
  const { stdout } = await api.kubectl(["api-resources", "-o", "name"]);
  for (const name of [
    "gateways.gateway.networking.k8s.io",
    "authorizationpolicies.security.istio.io",
  ])
    assert.ok(stdout.split("\n").includes(name), name);
});

test("kubectl acts as the administrator and reads its input", async () => {
  const manifest = JSON.stringify({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "settings" },
    data: { key: "value" },
  });
  assert.equal((await api.kubectl(["apply", "-f", "-"], { stdin: manifest })).code, 0);
  const { stdout } = await api.kubectl([
    "get",
    "configmap",
    "settings",
    "-o",
    "jsonpath={.data.key}",
  ]);
  assert.equal(stdout, "value");
  const missing = await api.kubectl(["get", "configmap", "absent"]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /NotFound/);
});

test("a user has the name and groups asked for, and no rights", async () => {
  const kubeconfig = await api.userKubeconfig({ user: "jane", groups: ["shop/dev", "readers"] });
  const { stdout } = await api.kubectl(["auth", "whoami", "-o", "json"], { kubeconfig });
  const { status } = JSON.parse(stdout) as {
    status: { userInfo: { username: string; groups: string[] } };
  };
  assert.equal(status.userInfo.username, "jane");
  assert.deepEqual(status.userInfo.groups, ["shop/dev", "readers", "system:authenticated"]);
  const refused = await api.kubectl(["get", "secrets"], { kubeconfig });
  assert.match(refused.stderr, /Forbidden/);
});

test("a service account's kubeconfig is that account's", async () => {
  const kubeconfig = await api.userKubeconfig({
    serviceAccount: { namespace: "shop", name: "cart" },
  });
  const { stdout } = await api.kubectl(["auth", "whoami"], { kubeconfig });
  assert.match(stdout, /system:serviceaccount:shop:cart/);
});

test("a token can be bound to a pod and an audience", async () => {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "cart-1", namespace: "shop" },
    spec: { serviceAccountName: "cart", containers: [{ name: "main", image: "none" }] },
  };
  await api.serviceAccountToken({ namespace: "shop", name: "cart" });
  await api.kubectl(["apply", "-f", "-"], { stdin: JSON.stringify(pod) });
  const token = await api.serviceAccountToken({
    namespace: "shop",
    name: "cart",
    audiences: ["istio-ca"],
    pod: "cart-1",
    expirationSeconds: 600,
  });
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as {
    aud: string[];
    exp: number;
    iat: number;
    "kubernetes.io": { pod: { name: string } };
  };
  assert.deepEqual(claims.aud, ["istio-ca"]);
  assert.equal(claims.exp - claims.iat, 600);
  assert.equal(claims["kubernetes.io"].pod.name, "cart-1");
});

test("the audit log tells who asked for what", async () => {
  const kubeconfig = await api.userKubeconfig({ user: "auditee" });
  await api.kubectl(["get", "configmap", "settings"], { kubeconfig });
  const mine = (await api.auditEvents()).filter((e) => e.user.username === "auditee");
  const read = mine.find((e) => e.objectRef?.resource === "configmaps");
  assert.equal(read?.verb, "get");
  assert.equal(read.objectRef?.name, "settings");
  assert.equal(read.responseStatus?.code, 403);
});

test("a restarted API server has the same address and objects", async () => {
  await api.kubectl(["create", "namespace", "kept"]);
  await api.restart();
  assert.equal((await api.kubectl(["get", "namespace", "kept"])).code, 0);
});

test("the controller manager gives namespaces their account and ends deleted ones", async () => {
  await api.controllerManager();
  await api.kubectl(["create", "namespace", "fleeting"]);
  const account = ["serviceaccount/default", "-n", "fleeting"];
  const made = await api.kubectl(["wait", "--for=create", ...account, "--timeout=10s"]);
  assert.equal(made.code, 0, made.stderr);
  const gone = await api.kubectl(["delete", "namespace", "fleeting", "--timeout=20s"]);
  assert.equal(gone.code, 0, gone.stderr);
});

test("nothing outlives a program that is killed", { timeout: 40_000 }, async () => {
  const module = join(import.meta.dirname, "../control-plane.ts");
  const source = `import { ControlPlane } from ${JSON.stringify(module)};
    const api = await ControlPlane.start({ controllerManager: ["serviceaccount-controller"] });
    console.log(api.dir); setInterval(() => {}, 1000);`;
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
    env,
  });
  const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
  const dir = line.trim();
  const processes = processesOf(dir);
  assert.equal(processes.length, 3);
  child.kill("SIGKILL");
  await once(child, "exit");
  for (let tries = 0; processesOf(dir).length > 0 && tries < 100; tries++) await sleep(20);
  assert.deepEqual(processesOf(dir), []);
  // the next control plane of anybody sweeps what is left
  assert.ok(existsSync(dir));
  await using next = await ControlPlane.start();
  assert.ok(!existsSync(dir));
  assert.ok(existsSync(next.dir));
});

/** Whose command line names the directory. */
function processesOf(dir: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(dir);
    } catch {
      return false;
    }
  });
}
