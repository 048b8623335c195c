// The node agent and its plugin against a real API server, under exactly the rights they are given.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pino } from "pino";
import { PolicyWatch } from "../../../cni/agent/policy-watch.ts";
import { tokenMint } from "../../../cni/agent/mint-token.ts";
import { PluginToken } from "../../../cni/install/plugin-token.ts";
import { removeTaint } from "../../../cni/agent/startup-taint.ts";
import { until } from "../../../cni/agent/test-ztunnel.ts";
import { parseConfig } from "../../../cni/plugin/config.ts";
import { secondOpinion } from "../../../cni/plugin/second-opinion.ts";
import { readConfig } from "../../../cni/agent/config.ts";
import { decideExit } from "../../../cni/install/exit-decision.ts";
import { kubeconfigPath, wantedKubeconfig } from "../../../cni/install/kubeconfig.ts";
import { systemClock } from "#lib/base/clock.ts";
import type { PolicyFinding } from "#lib/kube/network-policy.ts";
import { ControlPlane } from "../control-plane.ts";
import {
  AGENT,
  agentDaemonSet,
  agentKubeconfig,
  AgentRun,
  annotationOf,
  MODE,
  namespace,
  NODE,
  pod,
  put,
} from "./cni-run.ts";

const TAINT = "cni.istio.io/not-ready";

let api: ControlPlane;
let kubeconfig: string;

before(async () => {
  api = await ControlPlane.start({ auditLog: true });
  await put(api, namespace(AGENT.namespace), namespace("shop"));
  kubeconfig = await agentKubeconfig(api);
  // pods need their namespace's account
  await api.serviceAccountToken({ namespace: "shop", name: "default" });
});
after(async () => {
  await api[Symbol.asyncDispose]();
});

function decide(run: AgentRun): Promise<{ readonly kind: string }> {
  return decideExit({
    cluster: run.cluster,
    namespace: AGENT.namespace,
    daemonSet: "istio-cni-node",
    nodeName: NODE,
    cleansAlways: false,
    clock: systemClock,
  });
}

test("labels decide; the annotation goes through pods/status, one call a pod", async () => {
  await put(
    api,
    pod("cart"),
    pod("elsewhere", { node: "worker-2" }),
    pod("out", { labels: { [MODE]: "none" } }),
  );
  await using run = await AgentRun.start(kubeconfig);
  assert.deepEqual(
    run.view
      .pods()
      .map((p) => p.metadata.name)
      .sort(),
    ["cart", "out"],
    "pods of this node only",
  );
  const before = (await api.auditEvents()).length;
  await put(api, namespace("shop", { [MODE]: "ambient" }));
  await until("enrolment", () => run.reconciler.counts()["in the mesh"] === 1 || undefined);
  assert.equal(await annotationOf(api, "cart"), "enabled");
  assert.equal(await annotationOf(api, "out"), undefined);
  const calls = (await api.auditEvents())
    .slice(before)
    .filter((e) => e.userAgent?.startsWith("cni-agent") === true && e.verb !== "watch");
  assert.deepEqual(
    calls.map(
      (e) =>
        `${e.verb} ${e.objectRef?.resource}/${e.objectRef?.subresource} ${e.responseStatus?.code}`,
    ),
    ["patch pods/status 200"],
  );
  await put(api, namespace("shop", {}));
  const { code } = await api.kubectl(["label", "namespace", "shop", `${MODE}-`]);
  assert.equal(code, 0);
  await until("leaving", () => run.steps.includes("remove cart") || undefined);
  await until("the annotation", () => run.reconciler.counts().outside === 2 || undefined);
  assert.equal(await annotationOf(api, "cart"), undefined);
});

test("a pod that was replaced under its name is not annotated", async () => {
  await put(api, pod("again"));
  await using run = await AgentRun.start(kubeconfig);
  const old = run.view.pods().find((p) => p.metadata.name === "again");
  assert.ok(old);
  await api.kubectl(["delete", "pod", "-n", "shop", "again", "--force", "--grace-period=0"]);
  await put(api, pod("again"));
  const { annotator } = await import("../../../cni/agent/annotator.ts");
  await assert.rejects(annotator(run.cluster, "status")(old, "enabled"));
  assert.equal(await annotationOf(api, "again"), undefined);
  await api.kubectl(["delete", "pod", "-n", "shop", "again", "--force", "--grace-period=0"]);
  await annotator(run.cluster, "status")(old, "enabled"); // gone: nothing to do
});

test("the startup taint goes, others stay", async () => {
  await using run = await AgentRun.start(kubeconfig);
  const taints = [
    { key: TAINT, effect: "NoSchedule" },
    { key: "gpu", value: "yes", effect: "NoExecute" },
  ];
  await put(api, { apiVersion: "v1", kind: "Node", metadata: { name: NODE }, spec: { taints } });
  assert.equal(await removeTaint(run.cluster, NODE, TAINT), true);
  assert.equal(await removeTaint(run.cluster, NODE, TAINT), false);
  const left = await api.kubectl(["get", "node", NODE, "-o", "jsonpath={.spec.taints[*].key}"]);
  assert.ok(!left.stdout.includes(TAINT));
  assert.match(left.stdout, /gpu/);
});

test("keep while the DaemonSet wants the node, clean when it is gone or wants others", async () => {
  await using run = await AgentRun.start(kubeconfig);
  assert.equal((await decide(run)).kind, "clean", "not there");
  await put(api, agentDaemonSet());
  assert.equal((await decide(run)).kind, "keep");
  await put(api, agentDaemonSet({ nodeSelector: { pool: "mesh" } }));
  assert.equal((await decide(run)).kind, "clean", "other nodes");
  await api.kubectl(["label", "node", NODE, "pool=mesh"]);
  assert.equal((await decide(run)).kind, "keep");
});

test("NetworkPolicies that refuse HBONE are found", async () => {
  await using run = await AgentRun.start(kubeconfig);
  let shown: readonly PolicyFinding[] = [];
  const stop = new AbortController();
  using watch = new PolicyWatch({
    cluster: run.cluster,
    meshedPods: () => run.view.pods(),
    log: pino({ level: "silent" }),
    onFindings: (findings) => (shown = findings),
  });
  const watching = watch.run(stop.signal);
  await put(api, {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "web-only", namespace: "shop" },
    spec: {
      podSelector: {},
      policyTypes: ["Ingress"],
      ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 8080 }] }],
    },
  });
  await until("the finding", () => shown.some((f) => f.policies.includes("web-only")) || undefined);
  assert.equal(shown[0]?.kind, "mesh port refused");
  await api.kubectl(["delete", "networkpolicy", "-n", "shop", "web-only"]);
  await until("its end", () => shown.length === 0 || undefined);
  stop.abort();
  await watching;
});

test("the plugin asks the API server with the kubeconfig that the agent writes", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cni-kube-"));
  try {
    const url = new URL(api.url);
    const { install } = readConfig({
      NODE_NAME: NODE,
      CNI_AGENT_RUN_DIR: dir,
      SERVICE_ACCOUNT_DIR: join(dir, "sa"),
      KUBE_CA_FILE: api.caFile,
      KUBERNETES_SERVICE_HOST: url.hostname,
      KUBERNETES_SERVICE_PORT: url.port,
    });
    assert.ok(install);
    const write = (token: string): void => {
      writeFileSync(kubeconfigPath(install), wantedKubeconfig(install, token));
    };
    const config = parseConfig(JSON.stringify({ cniVersion: "1.0.0", ...install.entry }));
    const { stdout: uid } = await api.kubectl([
      "get",
      "pod",
      "-n",
      "shop",
      "cart",
      "-o",
      "jsonpath={.metadata.uid}",
    ]);
    const ask = (podUid = uid) =>
      secondOpinion({ podName: "cart", podNamespace: "shop", podUid }, config, async () => {});
    write(await api.serviceAccountToken(AGENT));
    assert.deepEqual(await ask(), { kind: "outside", why: "not selected" });
    assert.equal((await ask("another")).kind, "unknown");
    await put(api, namespace("shop", { [MODE]: "ambient" }));
    assert.deepEqual(await ask(), { kind: "inside" });
    write("no token");
    const refused = await ask();
    assert.match(refused.kind === "unknown" ? refused.why : "", /401/);
    write(await api.serviceAccountToken({ namespace: "shop", name: "default" }));
    const forbidden = await ask();
    assert.match(forbidden.kind === "unknown" ? forbidden.why : "", /403/);
    assert.doesNotMatch(JSON.stringify([refused, forbidden]), /eyJ/, "no token in any message");
    assert.match(readFileSync(kubeconfigPath(install), "utf8"), /current-context/);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("the plugin's token is bound to the node and outlives the agent's pod", async () => {
  await put(api, {
    ...pod("agent-pod"),
    metadata: { name: "agent-pod", namespace: AGENT.namespace },
    spec: {
      nodeName: NODE,
      serviceAccountName: AGENT.name,
      containers: [{ name: "c", image: "i" }],
    },
  });
  const own = await api.serviceAccountToken({ ...AGENT, pod: "agent-pod" });
  const dir = mkdtempSync(join(tmpdir(), "cni-token-"));
  try {
    writeFileSync(join(dir, "token"), own);
    await using run = await AgentRun.start(kubeconfig);
    const source = new PluginToken({
      serviceAccountDir: dir,
      mint: tokenMint(run.cluster.apiServer, NODE),
      clock: systemClock,
      log: pino({ level: "silent" }),
    });
    const minted = await source.current();
    assert.notEqual(minted, own);
    assert.equal(await source.current(), minted, "asked once");
    const claims = JSON.parse(
      Buffer.from(minted.split(".")[1] ?? "", "base64url").toString(),
    ) as Record<string, { node?: { name: string }; pod?: unknown }>;
    assert.equal(claims["kubernetes.io"]?.node?.name, NODE);
    assert.equal(claims["kubernetes.io"]?.pod, undefined);
    await api.kubectl([
      "delete",
      "pod",
      "-n",
      AGENT.namespace,
      "agent-pod",
      "--force",
      "--grace-period=0",
    ]);
    const status = (token: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const headers = { authorization: `Bearer ${token}` };
        const ca = readFileSync(api.caFile);
        get(`${api.url}/api/v1/namespaces/shop`, { ca, headers, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        }).once("error", reject);
      });
    assert.equal(await status(minted), 200);
    for (let i = 0; i < 100 && (await status(own)) !== 401; i++)
      await new Promise((r) => setTimeout(r, 100));
    assert.equal(await status(own), 401);
    assert.equal(await status(minted), 200);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("nothing was refused to the agent, and nothing it may do went unused", async () => {
  const events = await api.auditEvents();
  const own = events.filter((e) => e.userAgent?.startsWith("cni-agent") === true);
  const refused = own.filter((e) => e.responseStatus?.code === 403);
  assert.deepEqual(
    refused.map((e) => `${e.verb} ${e.requestURI}`),
    [],
  );
  const used = new Set(
    own.map((e) =>
      [e.verb, [e.objectRef?.resource, e.objectRef?.subresource].filter(Boolean).join("/")].join(
        " ",
      ),
    ),
  );
  for (const right of [
    "list pods",
    "watch pods",
    "list namespaces",
    "watch namespaces",
    "patch pods/status",
    "get nodes",
    "patch nodes",
    "get daemonsets",
    "create serviceaccounts/token",
    "list networkpolicies",
    "watch networkpolicies",
  ])
    assert.ok(used.has(right), right);
});

// last: an API server that starts refuses everybody until it has read its rules
test("the API server goes and comes back: what changed meanwhile is followed", async () => {
  await using run = await AgentRun.start(kubeconfig);
  await put(api, namespace("shop", { [MODE]: "ambient" }));
  await until("enrolment", () => run.reconciler.counts()["in the mesh"] === 1 || undefined);
  await api.stopApiServer();
  assert.equal((await decide(run)).kind, "keep", "nobody answers: the node may be going down");
  await api.startApiServer();
  await put(api, pod("late"));
  await until("the new pod", () => run.reconciler.counts()["in the mesh"] === 2 || undefined);
  await api.kubectl(["label", "namespace", "shop", `${MODE}-`]);
  await until("leaving", () => run.reconciler.counts()["in the mesh"] === 0 || undefined);
});
