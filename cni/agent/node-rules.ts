// The node's own side of the rules: which packet filter works here, the probe exemption, and its repair.
import type { Clock } from "#lib/base/clock.ts";
import type { Pod } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { closeFd, openNetns } from "#lib/sys/netns.ts";
import { backendName } from "../rules/backend.ts";
import { detectBackend } from "../rules/detect.ts";
import { scriptRunner } from "../rules/exec.ts";
import { HostRules, type ProbeEntry } from "../rules/host.ts";
import { planHostRules } from "../rules/plan-host.ts";
import type { AgentConfig } from "./config.ts";
import { explain } from "./errors.ts";
import { findKubeletUid } from "./kubelet-uid.ts";
import type { AgentMetrics } from "./metrics.ts";
import { podIps, redirectionOf } from "./pod-knobs.ts";
import { kernelPodRules, type PodRules } from "./pod-rules.ts";
import type { Reconciler } from "./reconciler.ts";

const HOST_RULE_ATTEMPTS = 10;
const HOST_RULE_PAUSE_MS = 2_000;
const HOST_SCRIPT_TIMEOUT_MS = 30_000;

export interface NodeRules {
  readonly backend: string;
  readonly rules: PodRules;
  readonly host: HostRules;
}

/** What it opens is closed by `undo`. @throws when no packet filter works here */
export async function prepareNode(
  config: AgentConfig,
  log: Logger,
  undo: AsyncDisposableStack,
): Promise<NodeRules> {
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
export async function installHostRules(
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

/** Compares, again and again, what should be with what is inside pods and node. */
export async function audit(
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
