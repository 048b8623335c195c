// Puts the agent together: node rules, the plugin's installation, namespaces remembered or found, the
// reconcile loop, ZDS, the plugin's socket, and what operators look at. Starting fails loudly; stopping
// leaves every rule in place, so that an upgrade never opens a pod, unless the agent is to go for good.
import { chmodSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock, type Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import { Readiness } from "#lib/obs/readiness.ts";
import { PLUGIN_TYPE } from "../install/config.ts";
import type { ExitDecision } from "../install/exit-decision.ts";
import type { MintToken } from "../install/plugin-token.ts";
import { annotator } from "./annotator.ts";
import { ClusterView } from "./cluster-view.ts";
import type { AgentConfig } from "./config.ts";
import { AgentError } from "./errors.ts";
import { EventServer } from "./event-server.ts";
import { createMetrics, type AgentMetrics } from "./metrics.ts";
import { Installation } from "./installation.ts";
import { netnsFinder } from "./netns-finder.ts";
import { NetnsScanner } from "./netns-scan.ts";
import { audit, installHostRules, prepareNode, type NodeRules } from "./node-rules.ts";
import { openOperatorServers } from "./operator-servers.ts";
import { pluginHandler } from "./plugin-handler.ts";
import { PolicyWatch } from "./policy-watch.ts";
import { Reconciler } from "./reconciler.ts";
import { SandboxStore } from "./sandbox-store.ts";
import { selfTest } from "./self-test.ts";
import { removeTaintOnceFit } from "./startup-taint.ts";
import { ZdsServer } from "./zds-server.ts";

export interface AppOptions {
  readonly config: AgentConfig;
  readonly cluster: Cluster;
  /**
   * Where annotations are written: Kubernetes lets the agent patch `pods/status` only; a directory of
   * manifests keeps a pod's annotations in the pod itself.
   */
  readonly annotationSubresource: "status" | null;
  /** For the plugin's kubeconfig. */
  readonly mintToken?: MintToken;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Ends a start that waits for the cluster. */
  readonly signal?: AbortSignal;
}

/** The running agent. Dispose stops it; nothing it wrote into pods or the node is taken out. */
export interface App extends AsyncDisposable {
  /**
   * Stops it for an upgrade, a reboot or for good, whichever the cluster says. For good, everything on
   * the node goes except what is inside pods: those have to leave the mesh first.
   */
  leave(): Promise<ExitDecision>;
  readonly metrics: AgentMetrics;
  readonly ports: { readonly health: number; readonly monitoring: number | null };
  readonly readiness: Readiness;
}

/** @throws when the node cannot be prepared, or `options.signal` aborts meanwhile */
export async function startApp(options: AppOptions): Promise<App> {
  const { config, cluster, log } = options;
  const clock = options.clock ?? systemClock;
  await using undo = new AsyncDisposableStack();
  const stop = new AbortController();
  undo.defer(() => stop.abort());
  const readiness = new Readiness();
  const starting = readiness.block("start");

  let zds: ZdsServer | null = null;
  let reconciler: Reconciler | null = null;
  let installation: Installation | null = null;
  let policies: PolicyWatch | null = null;
  const metrics = createMetrics(
    () => zds?.connectedCount ?? 0,
    () => reconciler?.counts() ?? null,
  );
  mkdirSync(config.runDir, { recursive: true });
  chmodSync(config.runDir, 0o750); // a host path is made for everybody; the sockets inside are not
  const sandboxes = new SandboxStore(join(config.runDir, "pods"));

  const view = new ClusterView(cluster, config.nodeName, log, clock);
  const operators = undo.use(
    await openOperatorServers({
      config,
      readiness,
      metrics,
      status: () => ({
        node: config.nodeName,
        installation: installation?.status() ?? null,
        ztunnels: zds?.status() ?? [],
        pods: (reconciler?.status() ?? []).map((pod) => ({
          ...pod,
          networkPolicies: policies?.findingsOf(pod.uid) ?? [],
        })),
      }),
    }),
  );
  const node = await prepareNode(config, log, undo);
  let isGoingForGood = false;
  undo.defer(async () => {
    // by now nobody is left who would put something in again
    if (isGoingForGood) await removeNodeTraces(node, config);
  });
  // before anything waits for the cluster: a node that comes up must not start pods of the mesh without us
  const installed = Installation.start({
    config,
    cluster,
    readiness,
    metrics,
    log,
    clock,
    mintToken: options.mintToken ?? null,
  });
  undo.use(installed);
  installation = installed;
  const leave = async (): Promise<ExitDecision> => {
    const decision = await installed.leave();
    isGoingForGood = decision.kind === "clean";
    return decision;
  };

  const loop = new Reconciler({
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
    finder: netnsFinder(sandboxes, new NetnsScanner(config.hostProc), config),
    annotate: annotator(cluster, options.annotationSubresource),
    forget: (uid) => sandboxes.delete(uid),
    log,
    metrics,
  });
  undo.use(loop);
  reconciler = loop;

  const advice = undo.use(
    new PolicyWatch({
      cluster,
      meshedPods: () => view.pods().filter((pod) => loop.wishOf(pod).kind === "enrol"),
      log,
      onFindings: (findings) => metrics.showPolicyFindings(findings),
    }),
  );
  policies = advice;
  const synced = Promise.withResolvers<void>();
  const watching = Promise.all([
    view.run(
      {
        onPod: (uid, type) => {
          metrics.reconcileEvents.inc({ type });
          loop.request(uid);
          advice.refreshSoon();
        },
        onPodGone: (pod) => {
          metrics.reconcileEvents.inc({ type: "delete" });
          loop.request(pod.metadata.uid ?? "");
          advice.refreshSoon();
        },
      },
      synced.resolve,
      stop.signal,
    ),
    config.watchNetworkPolicies ? advice.run(stop.signal) : Promise.resolve(),
  ]);
  undo.defer(async () => {
    stop.abort();
    await watching;
  });
  await Promise.race([synced.promise, watching, untilAborted(options.signal)]);
  if (options.signal?.aborted === true) {
    await leave();
    throw new AgentError("STOPPED", "Stopped before the cluster was read");
  }

  for (const { podUid } of sandboxes.all()) if (view.pod(podUid) === null) sandboxes.delete(podUid);
  await installHostRules(node.host, view.pods(), log, clock);
  // pods of an earlier agent first: a ztunnel that connects then gets them all, with their namespace
  await loop.settle();

  const proxies = ZdsServer.listen({
    path: config.zdsSocket,
    log,
    snapshot: () => loop.snapshot(),
    onChange: () => loop.requestAll(),
    clock,
  });
  undo.use(proxies);
  zds = proxies;
  undo.use(
    await EventServer.listen(
      config.runDir,
      pluginHandler({ config, view, reconciler: loop, sandboxes, readiness, clock }),
      log,
      metrics,
    ),
  );
  const background = [
    config.reconcileRules
      ? audit(loop, node.host, config.auditMs, { log, metrics, clock, signal: stop.signal })
      : Promise.resolve(),
    config.startupTaint === null
      ? Promise.resolve()
      : removeTaintOnceFit({
          cluster,
          nodeName: config.nodeName,
          key: config.startupTaint.key,
          selfTest: () => testNode(config, installed, proxies),
          log,
          clock,
          signal: stop.signal,
        }),
  ];
  undo.defer(async () => void (await Promise.all(background)));
  undo.defer(() => stop.abort());
  loop.requestAll();
  starting[Symbol.dispose]();
  log.info({ node: config.nodeName, backend: node.backend }, "node agent is ready");
  const owned = undo.move();
  return {
    metrics,
    readiness,
    ports: operators.ports,
    leave: async () => {
      const decision = await leave();
      await owned.disposeAsync();
      return decision;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What is ours on the node, apart from the plugin's installation. */
async function removeNodeTraces({ host }: NodeRules, { runDir }: AgentConfig): Promise<void> {
  await host.remove();
  rmSync(join(runDir, "pods"), { recursive: true, force: true });
  for (const name of readdirSync(runDir))
    if (/^(istio-cni(-\d+)?\.log|xtables\.lock)$/.test(name))
      rmSync(join(runDir, name), { force: true });
}

function testNode(
  config: AgentConfig,
  installation: Installation,
  zds: ZdsServer,
): Promise<readonly string[]> {
  const { install, startupTaint } = config;
  return selfTest({
    plugin: install === null ? null : join(install.binDir, PLUGIN_TYPE),
    runDir: config.runDir,
    installFaults: () => installation.faults(),
    ...(startupTaint?.needsZtunnel === true ? { ztunnels: () => zds.connectedCount } : {}),
  });
}

function untilAborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) resolve();
    else signal?.addEventListener("abort", () => resolve(), { once: true });
  });
}
