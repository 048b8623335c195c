// ADD when the agent does not let a pod in: the cluster's word counts, if it is clear. The API server here
// is a real HTTPS server with a certificate for its address.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createAgent } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Namespace, Pod } from "#lib/kube/objects.ts";
import type { CaBundle } from "#lib/pki/ca-bundle.ts";
import { testCa, testPair } from "#lib/pki/test-ca.ts";
import { runCommand } from "./command.ts";
import { parseConfig } from "./config.ts";
import { secondOpinion } from "./second-opinion.ts";

const MODE = "istio.io/dataplane-mode";
const SELECTORS = [
  { podSelector: { matchLabels: { [MODE]: "ambient" } } },
  {
    namespaceSelector: { matchLabels: { [MODE]: "ambient" } },
    podSelector: { matchExpressions: [{ key: MODE, operator: "NotIn", values: ["none"] }] },
  },
];
const ARGS = { podName: "cart", podNamespace: "shop", podUid: "u-1" };

class TestApi implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "cni-opinion-"));
  readonly seen: string[] = [];
  pauses = 0;
  pod: Partial<Pod["metadata"]> | null = {};
  spec: Pod["spec"] = {};
  namespaceLabels: Record<string, string> = {};
  status = 200;
  #server: Server | null = null;
  #ca: CaBundle | null = null;

  async listen(): Promise<this> {
    this.#ca = await testCa();
    const { certChainPem, privateKeyPem } = await testPair(this.#ca, ["127.0.0.1"]);
    const server = createServer({ cert: certChainPem, key: privateKeyPem }, (request, response) => {
      this.seen.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      const object = this.#object(request.url ?? "");
      const status = object === null ? 404 : this.status;
      const body = status === 200 ? object : { kind: "Status", message: "not today" };
      response.writeHead(status, { "content-type": "application/json" });
      // in two parts, as large objects come
      const text = JSON.stringify(body);
      response.write(text.slice(0, 10));
      setImmediate(() => response.end(text.slice(10)));
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.kubeconfig({});
    return this;
  }

  kubeconfig(o: {
    readonly token?: string;
    readonly cluster?: string;
    readonly ca?: string;
  }): void {
    const address = this.#server?.address() as AddressInfo | undefined;
    const ca = o.ca ?? this.#ca?.roots.map((root) => root.pem).join("") ?? "";
    writeFileSync(
      join(this.dir, "istio-cni-kubeconfig"),
      [
        "# Kubeconfig file for Istio CNI plugin.",
        "apiVersion: v1",
        "clusters:",
        "- cluster:",
        o.cluster ?? `    certificate-authority-data: ${Buffer.from(ca).toString("base64")}`,
        `    server: https://127.0.0.1:${address?.port}`,
        "  name: local",
        "contexts:",
        "- context:",
        "    cluster: local",
        "    user: istio-cni",
        "  name: istio-cni-context",
        "current-context: istio-cni-context",
        "kind: Config",
        "preferences: {}",
        "users:",
        "- name: istio-cni",
        "  user:",
        `    token: ${o.token ?? "secret"}`,
        "",
      ].join("\n"),
    );
  }

  opinion(config: object = {}, args = ARGS): ReturnType<typeof secondOpinion> {
    const parsed = parseConfig(
      JSON.stringify({
        cniVersion: "1.0.0",
        name: "n",
        cni_agent_run_dir: this.dir,
        enablement_selectors: SELECTORS,
        ...config,
      }),
    );
    return secondOpinion(args, parsed, () => Promise.resolve(void this.pauses++));
  }

  #object(url: string): Pod | Namespace | null {
    if (url === "/api/v1/namespaces/shop")
      return {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name: "shop", labels: this.namespaceLabels },
      };
    if (url !== "/api/v1/namespaces/shop/pods/cart" || this.pod === null) return null;
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "cart", namespace: "shop", uid: "u-1", ...this.pod },
      spec: this.spec ?? {},
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise<void>((resolve) => this.#server?.close(() => resolve()) ?? resolve());
    rmSync(this.dir, { recursive: true, force: true });
  }
}

test("a pod that nobody wants in the mesh starts, asked with the token and over TLS", async () => {
  await using api = await new TestApi().listen();
  assert.deepEqual(await api.opinion(), { kind: "outside", why: "not selected" });
  assert.deepEqual(api.seen.sort(), [
    "GET /api/v1/namespaces/shop Bearer secret",
    "GET /api/v1/namespaces/shop/pods/cart Bearer secret",
  ]);
});

for (const c of [
  { name: "by its namespace", ns: { [MODE]: "ambient" }, pod: {}, kind: "inside" },
  { name: "by itself", ns: {}, pod: { labels: { [MODE]: "ambient" } }, kind: "inside" },
  {
    name: "it objects",
    ns: { [MODE]: "ambient" },
    pod: { labels: { [MODE]: "none" } },
    kind: "outside",
  },
  {
    name: "it has a sidecar",
    ns: { [MODE]: "ambient" },
    pod: { annotations: { "sidecar.istio.io/status": "" } },
    kind: "outside",
  },
  { name: "a successor of its name", ns: {}, pod: { uid: "u-2" }, kind: "unknown" },
  {
    name: "the mirror of a static pod",
    ns: {},
    pod: { uid: "u-2", annotations: { "kubernetes.io/config.mirror": "u-1" } },
    kind: "outside",
  },
])
  test(`the cluster's word: ${c.name} is ${c.kind}`, async () => {
    await using api = await new TestApi().listen();
    api.namespaceLabels = c.ns as Record<string, string>;
    api.pod = c.pod;
    assert.equal((await api.opinion()).kind, c.kind);
  });

test("an empty list of selectors selects nothing, none at all says nothing", async () => {
  await using api = await new TestApi().listen();
  api.namespaceLabels = { [MODE]: "ambient" };
  assert.equal((await api.opinion({ enablement_selectors: [] })).kind, "outside");
  assert.equal((await api.opinion({ enablement_selectors: null })).kind, "unknown");
});

test("a refusal, a missing pod, another authority, no kubeconfig: unknown, after one more attempt", async () => {
  await using api = await new TestApi().listen();
  api.status = 401;
  const refused = await api.opinion();
  assert.match(refused.kind === "unknown" ? refused.why : "", /401 not today/);
  assert.equal(api.pauses, 1);
  api.status = 200;
  api.pod = null;
  assert.equal((await api.opinion()).kind, "unknown");
  api.pod = {};
  const other = await testCa();
  api.kubeconfig({ ca: other.roots.map((root) => root.pem).join("") });
  assert.equal((await api.opinion()).kind, "unknown");
  api.kubeconfig({ cluster: "    insecure-skip-tls-verify: true" });
  assert.equal((await api.opinion()).kind, "outside");
  rmSync(join(api.dir, "istio-cni-kubeconfig"));
  const nothing = await api.opinion();
  assert.match(nothing.kind === "unknown" ? nothing.why : "", /there is no/);
});

test("a patient plugin asks again 30 times, with the token of the moment", async () => {
  await using api = await new TestApi().listen();
  api.status = 500;
  assert.equal((await api.opinion({ enable_ambient_detection_retry: true })).kind, "unknown");
  assert.equal(api.pauses, 30);
});

for (const text of ["", "[]", "{}", "clusters: 5", "a: b: c", '{"clusters":[]}', "\u0000"])
  test(`no kubeconfig: ${JSON.stringify(text)}`, async () => {
    await using api = await new TestApi().listen();
    writeFileSync(join(api.dir, "istio-cni-kubeconfig"), text);
    assert.equal((await api.opinion()).kind, "unknown");
    assert.equal(api.seen.length, 0);
  });

/** Runs ADD for the pod with the directory's agent and kubeconfig. */
function add(dir: string): Promise<string> {
  return runCommand(
    {
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: "c",
      CNI_NETNS: "/run/netns/gone",
      CNI_IFNAME: "eth0",
      CNI_ARGS: "K8S_POD_NAME=cart;K8S_POD_NAMESPACE=shop;K8S_POD_UID=u-1",
    },
    () =>
      JSON.stringify({
        cniVersion: "1.0.0",
        name: "n",
        cni_agent_run_dir: dir,
        plugin_log_level: "error",
        enablement_selectors: SELECTORS,
      }),
  ).then((done) => done.stdout);
}

test("ADD without an agent: pods of the mesh wait, others start", async () => {
  await using api = await new TestApi().listen();
  assert.equal(await add(api.dir), '{"cniVersion":"1.0.0"}\n');
  api.namespaceLabels = { [MODE]: "ambient" };
  await assert.rejects(add(api.dir), { code: 999, message: /Cannot reach the node agent/ });
});

test("a refusal of a pod that the agent knows as one of the mesh asks nobody else", async () => {
  await using api = await new TestApi().listen();
  const headers: Record<string, string> = {};
  const agent = createAgent((_request, response) =>
    response.writeHead(500, headers).end("no ztunnel connection"),
  );
  await new Promise<void>((resolve) => agent.listen(join(api.dir, "pluginevent.sock"), resolve));
  try {
    // Istio's agent answers so for a pod that is not to be enrolled
    assert.equal(await add(api.dir), '{"cniVersion":"1.0.0"}\n');
    assert.equal(api.seen.length, 2);
    headers["ambit-pod-of-mesh"] = "true";
    await assert.rejects(add(api.dir), { code: 999, message: /500: no ztunnel connection/ });
    assert.equal(api.seen.length, 2);
  } finally {
    agent.closeAllConnections();
    agent.close();
  }
});
