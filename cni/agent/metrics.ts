// Every series of the node agent. Names and labels of the first five are Istio's.
import { Counter, Gauge, Registry } from "prom-client";

export interface AgentMetrics {
  readonly registry: Registry;
  readonly pluginRequests: Counter<"response_code">;
  readonly reconcileEvents: Counter<"type">;
  readonly ztunnelConnected: Gauge;
  readonly installReady: Gauge;
  readonly installs: Counter<"result">;
  readonly repairs: Counter<"what">;
  readonly failures: Counter<"code">;
}

/** @param connected  how many ztunnels are connected, asked at each scrape */
export function createMetrics(connected: () => number): AgentMetrics {
  const registry = new Registry();
  const registers = [registry];
  return {
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
