// Puts the agent together: node rules, namespaces remembered or found, the reconcile loop, ZDS, the
// plugin's socket, and what operators look at. Starting fails loudly; stopping leaves every rule in
// place, so that an upgrade never opens a pod.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { systemClock, type Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { Readiness } from "#lib/obs/readiness.ts";
import { closeFd, openNetns } from "#lib/sys/netns.ts";
import { backendName } from "../rules/backend.ts";
import { detectBackend } from "../rules/detect.ts";
import { scriptRunner } from "../rules/exec.ts";
import { HostRules, type ProbeEntry } from "../rules/host.ts";
import { planHostRules } from "../rules/plan-host.ts";
import { ClusterView } from "./cluster-view.ts";
import type { AgentConfig } from "./config.ts";
import { explain } from "./errors.ts";
import { EventServer } from "./event-server.ts";
import { findKubeletUid } from "./kubelet-uid.ts";
import { createMetrics, type AgentMetrics } from "./metrics.ts";
import { netnsFinder } from "./netns-finder.ts";
import { NetnsScanner } from "./netns-scan.ts";
import { openOperatorServers } from "./operator-servers.ts";
import { pluginHandler } from "./plugin-handler.ts";
import { podIps, REDIRECTION, redirectionOf } from "./pod-knobs.ts";
import { kernelPodRules, type PodRules } from "./pod-rules.ts";
import { Reconciler } from "./reconciler.ts";
import { SandboxStore } from "./sandbox-store.ts";
import { ZdsServer } from "./zds-server.ts";

export interface AppOptions {
  readonly config: AgentConfig;
  readonly cluster: Cluster;
  /**
   * Where annotations are written: Kubernetes lets the agent patch `pods/status` only; a directory of
   * manifests keeps a pod's annotations in the pod itself.
   */
  readonly annotationSubresource: "status" | null;
  readonly log: Logger;
  readonly clock?: Clock;
}

const FIELD_MANAGER = "ambit-cni";
const HOST_RULE_ATTEMPTS = 10;
const HOST_RULE_PAUSE_MS = 2_000;
const HOST_SCRIPT_TIMEOUT_MS = 30_000;

/** The running agent. Dispose stops it; nothing it wrote into pods or the node is taken out. */
export interface App extends AsyncDisposable {
  readonly metrics: AgentMetrics;
  readonly ports: { readonly health: number; readonly monitoring: number | null };
  readonly readiness: Readiness;
}

/** @throws when the node cannot be prepared */
export async function startApp(options: AppOptions): Promise<App> {
  const { config, cluster, log } = options;
  const clock = options.clock ?? systemClock;
  await using undo = new AsyncDisposableStack();
  const stop = new AbortController();
  undo.defer(() => stop.abort());
  const readiness = new Readiness();
  const starting = readiness.block("start");

  let connected = (): number => 0;
  const metrics = createMetrics(() => connected());
  mkdirSync(config.runDir, { recursive: true, mode: 0o750 });
  const sandboxes = new SandboxStore(join(config.runDir, "pods"));

  const view = new ClusterView(cluster, config.nodeName, log, clock);
  const operators = undo.use(
    await openOperatorServers({
      config,
      readiness,
      metrics,
      status: () => ({ pods: reconciler?.status() ?? [], ztunnels: zds?.status() ?? [] }),
    }),
  );
  const node = await prepareNode(config, log, undo);

  let zds: ZdsServer | null = null;
  const reconciler: Reconciler | null = new Reconciler({
    source: view,
    enrolment: config,
    defaults: config,
    rules: node.rules,
    probes: node.host,
    proxies: {
      hasAcked: (uid, id) => zds?.hasAcked(uid, id) ?? false,
      add: async (pod, netns) => (await zds?.add(pod, netns)) ?? null,
      del: async (uid) => zds?.del(uid),
      untilConnected: async (ms) => zds?.untilConnected(ms),
    },
    finder: netnsFinder(sandboxes, new NetnsScanner(config.hostProc), config.hostNetnsPrefix),
    annotate: (pod, value) => annotate(options, pod, value),
    forget: (uid) => sandboxes.delete(uid),
    log,
    metrics,
  });
  undo.use(reconciler);

  const synced = Promise.withResolvers<void>();
  const watching = view.run(
    {
      onPod: (uid, type) => {
        metrics.reconcileEvents.inc({ type });
        reconciler.request(uid);
      },
      onPodGone: (pod) => {
        metrics.reconcileEvents.inc({ type: "delete" });
        reconciler.request(pod.metadata.uid ?? "");
      },
    },
    synced.resolve,
    stop.signal,
  );
  undo.defer(async () => {
    stop.abort();
    await watching;
  });
  await Promise.race([synced.promise, watching]);

  for (const { podUid } of sandboxes.all()) if (view.pod(podUid) === null) sandboxes.delete(podUid);
  await installHostRules(node.host, view.pods(), log, clock);
  // pods of an earlier agent first: a ztunnel that connects then gets them all, with their namespace
  await reconciler.settle();

  zds = ZdsServer.listen({
    path: config.zdsSocket,
    log,
    snapshot: () => reconciler.snapshot(),
    onChange: () => reconciler.requestAll(),
    clock,
  });
  undo.use(zds);
  const proxies = zds;
  connected = () => proxies.connectedCount;
  undo.use(
    await EventServer.listen(
      config.runDir,
      pluginHandler({ config, view, reconciler, sandboxes, readiness, clock }),
      log,
      metrics,
    ),
  );
  const auditing = config.reconcileRules
    ? audit(reconciler, node.host, config.auditMs, { log, metrics, clock, signal: stop.signal })
    : Promise.resolve();
  undo.defer(() => auditing);
  undo.defer(() => stop.abort());
  reconciler.requestAll();
  starting[Symbol.dispose]();
  log.info({ node: config.nodeName, backend: node.backend }, "node agent is ready");
  const owned = undo.move();
  return {
    metrics,
    readiness,
    ports: operators.ports,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface Node {
  readonly backend: string;
  readonly rules: PodRules;
  readonly host: HostRules;
}

async function prepareNode(
  config: AgentConfig,
  log: Logger,
  undo: AsyncDisposableStack,
): Promise<Node> {
  const ns = config.hostNetns === null ? null : openNetns(config.hostNetns);
  if (ns !== null) undo.defer(() => closeFd(ns));
  const runner = scriptRunner(ns, HOST_SCRIPT_TIMEOUT_MS);
  const { backend, notes } = await detectBackend(runner, config);
  for (const note of notes) log.warn({ note }, "a packet filter was passed over");
  const detected = config.proberUid === "detect" ? findKubeletUid(config.hostProc) : null;
  if (config.proberUid === "detect" && detected === null && backend.kind === "nft")
    log.warn("no kubelet runs here: probes of every process of the node are exempt");
  // the iptables rule names no user: any socket of the node counts, as it does in Istio
  const proberUid =
    backend.kind === "iptables" || config.proberUid === "any"
      ? null
      : config.proberUid === "detect"
        ? detected
        : config.proberUid;
  const plan = planHostRules({ ipv6: config.ipv6, proberUid, probeSource: config.probeSource });
  return {
    backend: backendName(backend),
    rules: kernelPodRules(backend),
    host: new HostRules(runner, backend, plan),
  };
}

/** Rules and sets at once, holding the pods an earlier agent had enrolled: their probes never miss a beat. */
async function installHostRules(
  host: HostRules,
  pods: readonly Pod[],
  log: Logger,
  clock: Clock,
): Promise<void> {
  const entries: ProbeEntry[] = pods
    .filter((pod) => redirectionOf(pod) === "enabled")
    .flatMap((pod) => podIps(pod).map((ip) => ({ ip, uid: pod.metadata.uid ?? "" })));
  for (let attempt = 1; ; attempt++)
    try {
      return await host.install(entries);
    } catch (error) {
      if (attempt === HOST_RULE_ATTEMPTS) throw error;
      log.warn({ attempt, error: explain(error) }, "cannot write the node's rules, trying again");
      await clock.sleep(HOST_RULE_PAUSE_MS);
    }
}

async function annotate(
  { cluster, annotationSubresource }: AppOptions,
  pod: Pod,
  value: "enabled" | "pending" | null,
): Promise<void> {
  const { name, namespace = "default" } = pod.metadata;
  const patch = { metadata: { annotations: { [REDIRECTION]: value } } };
  try {
    await cluster.patch(RESOURCES.pods, namespace, name, patch, {
      fieldManager: FIELD_MANAGER,
      ...(annotationSubresource === null ? {} : { subresource: annotationSubresource }),
    });
  } catch (error) {
    if (error instanceof KubeError && error.code === "NOT_FOUND") return; // gone meanwhile
    throw error;
  }
}

/** Compares, again and again, what should be with what is inside pods and node. */
async function audit(
  reconciler: Reconciler,
  host: HostRules,
  everyMs: number,
  o: { log: Logger; metrics: AgentMetrics; clock: Clock; signal: AbortSignal },
): Promise<void> {
  for (;;) {
    await o.clock.sleep(everyMs, o.signal);
    if (o.signal.aborted) return;
    reconciler.audit();
    try {
      const faults = await host.repair();
      if (faults.length === 0) continue;
      o.metrics.repairs.inc({ what: "host rules" });
      o.log.warn({ faults }, "the node's rules were not in place, wrote them again");
    } catch (error) {
      o.log.error({ error: explain(error) }, "cannot check the node's rules");
    }
  }
}
