// The node agent over a real API server, with its own rights and no others, on a node without a kernel:
// what would happen inside pods and in a ztunnel is only written down.
import assert from "node:assert/strict";
import { pino } from "pino";
import { annotator } from "../../../cni/agent/annotator.ts";
import { ClusterView } from "../../../cni/agent/cluster-view.ts";
import { readConfig } from "../../../cni/agent/config.ts";
import { createMetrics } from "../../../cni/agent/metrics.ts";
import { PodNetns } from "../../../cni/agent/pod-netns.ts";
import { Reconciler } from "../../../cni/agent/reconciler.ts";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import type { ControlPlane } from "../control-plane.ts";

export const NODE = "worker-1";
export const AGENT = { namespace: "istio-system", name: "istio-cni" } as const;
export const MODE = "istio.io/dataplane-mode";
export const REDIRECTION = "ambient.istio.io/redirection";

/** The agent's rights: cni/README.md lists them. */
const RULES = {
  cluster: [
    { apiGroups: [""], resources: ["pods", "namespaces"], verbs: ["get", "list", "watch"] },
    { apiGroups: [""], resources: ["pods/status"], verbs: ["patch"] },
    { apiGroups: [""], resources: ["nodes"], verbs: ["get", "patch"] },
    { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: ["list", "watch"] },
  ],
  own: [
    {
      apiGroups: ["apps"],
      resources: ["daemonsets"],
      resourceNames: ["istio-cni-node"],
      verbs: ["get"],
    },
    {
      apiGroups: [""],
      resources: ["serviceaccounts/token"],
      resourceNames: ["istio-cni"],
      verbs: ["create"],
    },
  ],
};

/** The agent's DaemonSet as far as its end looks at it. @param pod  more of its template's spec */
export function agentDaemonSet(pod: object = {}): object {
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "istio-cni-node", namespace: AGENT.namespace },
    spec: {
      selector: { matchLabels: { a: "b" } },
      template: {
        metadata: { labels: { a: "b" } },
        spec: { containers: [{ name: "c", image: "i" }], ...pod },
      },
    },
  };
}

/** Applies as the administrator. */
export async function put(api: ControlPlane, ...objects: readonly object[]): Promise<void> {
  const stdin = objects.map((object) => JSON.stringify(object)).join("\n---\n");
  for (const subresource of [[], ["--subresource=status"]]) {
    const isStatus = subresource.length > 0;
    if (isStatus && !objects.every((object) => "status" in object)) return;
    const done = await api.kubectl(
      ["apply", "--server-side", "--force-conflicts", "-f", "-", ...subresource],
      { stdin },
    );
    assert.equal(done.code, 0, done.stderr);
  }
}

export const namespace = (name: string, labels: Readonly<Record<string, string>> = {}): object => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name, labels },
});

/** A pod bound to a node, with an address. */
export function pod(
  name: string,
  o: {
    readonly node?: string;
    readonly ip?: string;
    readonly labels?: Readonly<Record<string, string>>;
  } = {},
): object {
  const ip = o.ip ?? "10.244.1.7";
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "shop", labels: o.labels ?? {} },
    spec: { nodeName: o.node ?? NODE, containers: [{ name: "c", image: "i" }] },
    status: { phase: "Running", podIP: ip, podIPs: [{ ip }] },
  };
}

/** The agent's account with its rights; a kubeconfig of it. */
export async function agentKubeconfig(api: ControlPlane): Promise<string> {
  const kubeconfig = await api.userKubeconfig({ serviceAccount: AGENT });
  const rbac = "rbac.authorization.k8s.io";
  const subjects = [{ kind: "ServiceAccount", ...AGENT }];
  const own = { namespace: AGENT.namespace, name: AGENT.name };
  await put(
    api,
    {
      apiVersion: `${rbac}/v1`,
      kind: "ClusterRole",
      metadata: { name: AGENT.name },
      rules: RULES.cluster,
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: "ClusterRoleBinding",
      metadata: { name: AGENT.name },
      roleRef: { apiGroup: rbac, kind: "ClusterRole", name: AGENT.name },
      subjects,
    },
    { apiVersion: `${rbac}/v1`, kind: "Role", metadata: own, rules: RULES.own },
    {
      apiVersion: `${rbac}/v1`,
      kind: "RoleBinding",
      metadata: own,
      roleRef: { apiGroup: rbac, kind: "Role", name: AGENT.name },
      subjects,
    },
  );
  return kubeconfig;
}

/** View and reconcile loop of an agent; owns both. */
export class AgentRun implements AsyncDisposable {
  readonly cluster: ApiServerCluster;
  readonly view: ClusterView;
  readonly reconciler: Reconciler;
  /** `enrol <pod>`, `remove <pod>`, in order. */
  readonly steps: string[] = [];
  readonly #inside = new Set<string>();
  readonly #acked = new Set<string>();
  readonly #stop = new AbortController();
  #watching: Promise<void> = Promise.resolve();

  private constructor(cluster: ApiServerCluster) {
    const log = pino({ level: "silent" });
    const config = readConfig({ NODE_NAME: NODE, INSTALL_CNI_PLUGIN: "false" });
    this.cluster = cluster;
    this.view = new ClusterView(cluster, NODE, log);
    this.reconciler = new Reconciler({
      source: this.view,
      enrolment: config,
      defaults: config,
      rules: {
        apply: async () => {},
        faults: async () => [],
        has: async () => true,
        remove: async () => {},
      },
      probes: { put: async () => {}, drop: async () => {} },
      proxies: {
        hasAcked: (uid) => this.#acked.has(uid),
        add: async ({ uid, name }) => {
          this.#acked.add(uid);
          this.steps.push(`enrol ${name}`);
          return { kind: "ack" };
        },
        del: async (uid) => {
          this.#acked.delete(uid);
          this.steps.push(`remove ${this.view.pod(uid)?.metadata.name}`);
        },
        untilConnected: async () => {},
      },
      finder: { find: async () => PodNetns.open("/proc/self/ns/net") },
      annotate: annotator(cluster, "status"),
      forget: (uid) => void this.#inside.delete(uid),
      log,
      metrics: createMetrics(() => 1),
      retry: { startMs: 20, maxMs: 200 },
    });
  }

  static async start(kubeconfig: string): Promise<AgentRun> {
    const log = pino({ level: "silent" });
    const run = new AgentRun(
      new ApiServerCluster(await openApiServer({ kubeconfig, userAgent: "cni-agent" }), { log }),
    );
    const synced = Promise.withResolvers<void>();
    run.#watching = run.view.run(
      {
        onPod: (uid) => run.reconciler.request(uid),
        onPodGone: (gone) => run.reconciler.request(gone.metadata.uid ?? ""),
      },
      synced.resolve,
      run.#stop.signal,
    );
    await synced.promise;
    run.reconciler.requestAll();
    return run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.reconciler[Symbol.asyncDispose]();
    await this.#watching;
    this.cluster.apiServer[Symbol.dispose]();
  }
}

export async function annotationOf(api: ControlPlane, name: string): Promise<string | undefined> {
  const { stdout } = await api.kubectl(["get", "pod", "-n", "shop", name, "-o", "json"]);
  const { metadata } = JSON.parse(stdout) as {
    metadata: { annotations?: Record<string, string> };
  };
  return metadata.annotations?.[REDIRECTION];
}
