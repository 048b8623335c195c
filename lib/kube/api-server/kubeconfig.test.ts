// Where the cluster and the credentials come from.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KubeError } from "../errors.ts";
import { serviceAccountCredentials } from "./credentials.ts";
import { endpointOf, readKubeconfig } from "./kubeconfig.ts";
import { openApiServer } from "./open-api-server.ts";

function scratch(): Disposable & {
  readonly dir: string;
  file(name: string, text: string): string;
} {
  const dir = mkdtempSync(join(tmpdir(), "ambit-kubeconfig-"));
  return {
    dir,
    file: (name, text) => {
      const path = join(dir, name);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, text);
      return path;
    },
    [Symbol.dispose]: () => rmSync(dir, { recursive: true }),
  };
}

function config(user: object, cluster: object = {}, extra: object = {}): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "here",
    contexts: [{ name: "here", context: { cluster: "c", user: "u", namespace: "shop" } }],
    clusters: [{ name: "c", cluster: { server: "https://10.0.0.1:6443", ...cluster } }],
    users: [{ name: "u", user }],
    ...extra,
  });
}

const unusable = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof KubeError, String(error));
  assert.equal(error.code, "CONFIG");
  assert.match(error.message, message);
  return true;
};

test("files and data beside the kubeconfig become TLS settings and headers", async () => {
  using tmp = scratch();
  tmp.file("pki/ca.crt", "CA");
  tmp.file("token", "first\n");
  const file = tmp.file(
    "config",
    config(
      {
        tokenFile: "token",
        "client-certificate-data": btoa("CERT"),
        "client-key-data": btoa("KEY"),
      },
      { "certificate-authority": "pki/ca.crt", "tls-server-name": "kubernetes" },
    ),
  );
  const endpoint = endpointOf(await readKubeconfig([file]), undefined);
  assert.equal(endpoint.namespace, "shop");
  assert.equal(endpoint.serverName, "kubernetes");
  const first = await endpoint.credentials.read(false);
  assert.deepEqual(
    [String(first.ca), String(first.cert), String(first.key)],
    ["CA", "CERT", "KEY"],
  );
  assert.deepEqual(first.headers, { Authorization: "Bearer first" });
  tmp.file("token", "second");
  assert.equal((await endpoint.credentials.read(true)).headers.Authorization, "Bearer second");
});

test("several files merge: the first of a name counts", async () => {
  using tmp = scratch();
  const one = tmp.file("one", config({ token: "one" }));
  const two = tmp.file(
    "two",
    config(
      { token: "two" },
      {},
      {
        "current-context": "there",
        contexts: [{ name: "there", context: { cluster: "c", user: "u" } }],
      },
    ),
  );
  using api = await openApiServer({ environment: { KUBECONFIG: `${one}:${tmp.dir}/none:${two}` } });
  assert.equal(api.context, "here");
  const there = endpointOf(await readKubeconfig([one, two]), "there");
  assert.equal((await there.credentials.read(false)).headers.Authorization, "Bearer one");
});

test("a plugin gives the token, is told for whom, and is asked again after a refusal", async () => {
  using tmp = scratch();
  const plugin = tmp.file(
    "plugin",
    `#!/bin/sh
echo x >> ${tmp.dir}/calls
n=$(wc -l < ${tmp.dir}/calls)
case "$KUBERNETES_EXEC_INFO" in *'"server":"https://10.0.0.1:6443"'*) ;; *) exit 3;; esac
echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"'$WORD-$n'"}}'
`,
  );
  chmodSync(plugin, 0o755);
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: plugin,
    env: [{ name: "WORD", value: "t" }],
    provideClusterInfo: true,
  };
  const file = tmp.file("config", config({ exec }));
  const { credentials } = endpointOf(await readKubeconfig([file]), undefined);
  const token = async (isRefused: boolean) =>
    (await credentials.read(isRefused)).headers.Authorization;
  assert.equal(await token(false), "Bearer t-1");
  assert.equal(await token(false), "Bearer t-1");
  assert.equal(await token(true), "Bearer t-2");
  const broken = tmp.file("broken", config({ exec: { ...exec, command: "/bin/false" } }));
  await assert.rejects(
    endpointOf(await readKubeconfig([broken]), undefined).credentials.read(false),
    unusable(/credential plugin \/bin\/false of user u failed/),
  );
});

test("a proxy is left to the client library", async () => {
  using tmp = scratch();
  const file = tmp.file("config", config({ token: "t" }, { "proxy-url": "http://127.0.0.1:3128" }));
  const credentials = await endpointOf(await readKubeconfig([file]), undefined).credentials.read(
    false,
  );
  assert.ok(credentials.agent);
  assert.equal(credentials.headers.Authorization, "Bearer t");
});

test("a pod finds its service account", async () => {
  using tmp = scratch();
  tmp.file("token", "mounted\n");
  tmp.file("ca.crt", "CA");
  tmp.file("namespace", "istio-system\n");
  using api = await openApiServer({
    environment: {
      KUBERNETES_SERVICE_HOST: "fd00::1",
      KUBERNETES_SERVICE_PORT: "443",
      HOME: tmp.dir,
    },
    serviceAccountDir: tmp.dir,
  });
  assert.equal(api.namespace, "istio-system");
  assert.equal(api.url, "https://[fd00::1]");
  const read = await serviceAccountCredentials(tmp.dir).read(false);
  assert.deepEqual(read.headers, { Authorization: "Bearer mounted" });
});

test("what cannot be used is named", async () => {
  using tmp = scratch();
  const file = tmp.file("config", config({ token: "t" }));
  const cases: [string, object, RegExp][] = [
    ["no file", { kubeconfig: `${tmp.dir}/none` }, /Cannot read the kubeconfig .*none/],
    ["context", { kubeconfig: file, context: "x" }, /no context "x"; there are: here/],
    ["listed", { environment: { KUBECONFIG: `${tmp.dir}/none` } }, /no such file/],
    ["nothing", { environment: { HOME: tmp.dir } }, /No cluster to talk to/],
    ["yaml", { kubeconfig: tmp.file("bad", "a: [") }, /Cannot read the kubeconfig .*bad/],
    [
      "user",
      { kubeconfig: tmp.file("nouser", config({}, {}, { users: [] })) },
      /user u, which is missing/,
    ],
    ["url", { kubeconfig: tmp.file("nourl", config({}, { server: "10.0.0.1" })) }, /is no URL/],
    [
      "list",
      { kubeconfig: tmp.file("nolist", config({}, {}, { users: {} })) },
      /users: expected a list/,
    ],
  ];
  for (const [name, options, message] of cases)
    await assert.rejects(openApiServer(options), unusable(message), name);
});
