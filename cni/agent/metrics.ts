// Every series of the node agent. Names and labels of the first five are Istio's.
import { Counter, Gauge, Registry } from "prom-client";
import type { PolicyFinding } from "#lib/kube/network-policy.ts";
import type { PodCounts } from "./pod-state.ts";

export interface AgentMetrics {
  readonly registry: Registry;
  readonly pluginRequests: Counter<"response_code">;
  readonly reconcileEvents: Counter<"type">;
  readonly ztunnelConnected: Gauge;
  readonly installReady: Gauge;
  readonly installs: Counter<"result">;
  readonly repairs: Counter<"what">;
  readonly failures: Counter<"code">;
  /** Replaces what was shown. */
  showPolicyFindings(findings: readonly PolicyFinding[]): void;
}

/**
 * @param connected  how many ztunnels are connected, asked at each scrape
 * @param pods       how many pods are in which state, likewise; `null` before anybody has looked
 */
export function createMetrics(
  connected: () => number,
  pods: () => PodCounts | null = () => null,
): AgentMetrics {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({
    name: "ambit_cni_pods",
    help: "Pods of this node by what was found inside them: in the mesh, outside, or not (yet) as wanted",
    labelNames: ["state"],
    registers,
    collect() {
      for (const [state, count] of Object.entries(pods() ?? {})) this.set({ state }, count);
    },
  });
  const refusing = new Gauge({
    name: "ambit_cni_network_policy_refusals",
    help: "Pods of the mesh on this node whose NetworkPolicies refuse HBONE",
    labelNames: ["direction", "kind"],
    registers,
  });
  return {
    showPolicyFindings(findings) {
      refusing.reset();
      for (const { direction, kind } of findings) refusing.inc({ direction, kind });
    },
    registry,
    pluginRequests: new Counter({
      name: "istio_cni_plugin_requests_total",
      help: "Requests of the CNI plugin, by the status they were answered with",
      labelNames: ["response_code"],
      registers,
    }),
    reconcileEvents: new Counter({
      name: "nodeagent_reconcile_events_total",
      help: "Pod changes the agent was told of",
      labelNames: ["type"],
      registers,
    }),
    ztunnelConnected: new Gauge({
      name: "ztunnel_connected",
      help: "Connections of ztunnels",
      registers,
      collect() {
        this.set(connected());
      },
    }),
    installReady: new Gauge({
      name: "istio_cni_install_ready",
      help: "Whether the plugin is installed on this node",
      registers,
    }),
    installs: new Counter({
      name: "istio_cni_installs_total",
      help: "Attempts to install the plugin on this node",
      labelNames: ["result"],
      registers,
    }),
    repairs: new Counter({
      name: "ambit_cni_repairs_total",
      help: "Things found missing that should have been there, and put back",
      labelNames: ["what"],
      registers,
    }),
    failures: new Counter({
      name: "ambit_cni_reconcile_failures_total",
      help: "Pods that could not be brought to their wanted state, by error code",
      labelNames: ["code"],
      registers,
    }),
  };
}
