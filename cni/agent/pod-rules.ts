// The rules of a pod as the reconciler sees them: an interface, so that its tests need no kernel, and
// the real thing on cni/rules.
import { applyPodRules, hasPodRules, podRuleFaults, removePodRules } from "../rules/apply.ts";
import type { Backend } from "../rules/backend.ts";
import { scriptRunner, type ScriptRunner } from "../rules/exec.ts";
import { planPodRules, type PodRuleOptions } from "../rules/plan.ts";
import type { PodNetns } from "./pod-netns.ts";

/** Every call borrows `netns` and only until its first await. */
export interface PodRules {
  /** Idempotent. */
  apply(netns: PodNetns, options: PodRuleOptions): Promise<void>;
  /** What is missing or wrong inside; empty when all is in place. */
  faults(netns: PodNetns, options: PodRuleOptions): Promise<readonly string[]>;
  /** Whether anything of ours is inside. */
  has(netns: PodNetns): Promise<boolean>;
  /** Absence is success. */
  remove(netns: PodNetns): Promise<void>;
}

/** Longer than any lock another program holds, shorter than kubelet's patience. */
const SCRIPT_TIMEOUT_MS = 30_000;

export function kernelPodRules(backend: Backend, timeoutMs = SCRIPT_TIMEOUT_MS): PodRules {
  const inside = (netns: PodNetns): ScriptRunner => ({
    // asks for the descriptor at each run: a closed namespace must not become another's
    run: (script, signal) => scriptRunner(netns.fd, timeoutMs).run(script, signal),
  });
  return {
    apply: (netns, options) => applyPodRules(inside(netns), backend, planPodRules(options)),
    faults: (netns, options) => podRuleFaults(inside(netns), backend, planPodRules(options)),
    has: (netns) => hasPodRules(inside(netns), backend),
    remove: (netns) => removePodRules(inside(netns), backend),
  };
}
