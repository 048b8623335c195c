// Settings of the node agent, read once from the environment. Names are Istio's; defaults are those
// of its Helm chart, except that nftables is preferred over iptables.
import { parse as parseYaml } from "yaml";
import { compileSelectors, type EnrolmentSelector } from "../enrolment/selectors.ts";
import { readInstallConfig, type InstallConfig } from "../install/config.ts";
import { PROBE_SNAT } from "../rules/constants.ts";
import type { PerFamily } from "../rules/plan.ts";
import { SettingReader, type Environment } from "../setting-reader.ts";
import { AgentError } from "./errors.ts";

export interface AgentConfig {
  readonly nodeName: string;
  /** Directory of manifests that stands in for the API server; `null` on Kubernetes. */
  readonly manifestDir: string | null;
  readonly selectors: readonly EnrolmentSelector[];
  readonly excludeNamespaces: ReadonlySet<string>;
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  /** Look into every enrolled pod at start and every `auditMs`, and repair what is not in place. */
  readonly reconcileRules: boolean;
  readonly preferNft: boolean;
  readonly forceIptables: "legacy" | "nft" | null;
  /** Sockets, the plugin's log file and remembered sandboxes. */
  readonly runDir: string;
  readonly zdsSocket: string;
  /** Where the host's procfs is seen from here. */
  readonly hostProc: string;
  /** Put before a namespace path of a runtime to find it from here. */
  readonly hostNetnsPrefix: string;
  /** Path of the node's network namespace; `null` when the agent is in it. */
  readonly hostNetns: string | null;
  readonly probeSource: PerFamily;
  /** Whose sockets are the kubelet's: a user, every user, or looked up in procfs. */
  readonly proberUid: number | "any" | "detect";
  /** `/readyz` and `/healthz`. 0 takes any free port. */
  readonly healthPort: number;
  /** `/metrics`; `null` disables it. */
  readonly monitoringPort: number | null;
  /** Loopback only: `/debug/pods`; `null` disables it. */
  readonly debugPort: number | null;
  readonly auditMs: number;
  /** Putting plugin and conflist entry onto the node; `null` where somebody else does. */
  readonly install: InstallConfig | null;
  /** Taint taken off the node once a pod could be served; `null` leaves taints alone. */
  readonly startupTaint: StartupTaint | null;
  /** Look for NetworkPolicies that keep HBONE from pods of the mesh. */
  readonly watchNetworkPolicies: boolean;
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  readonly logFormat: "plain" | "json";
}

export interface StartupTaint {
  readonly key: string;
  /** Wait until a ztunnel is connected. */
  readonly needsZtunnel: boolean;
}

/** @throws {AgentError} `BAD_CONFIG` naming every setting that cannot be read */
export function readConfig(env: Environment): AgentConfig {
  const r = new SettingReader(env);
  const manifestDir = r.text("MANIFEST_DIR", "");
  const isKubernetes = manifestDir === "";
  const selectors = r.parsed("AMBIENT_ENABLEMENT_SELECTOR", DEFAULT_SELECTORS, readSelectors);
  const excludeNamespaces = r.list("EXCLUDE_NAMESPACES", "kube-system");
  const runDir = r.path("CNI_AGENT_RUN_DIR", "/var/run/istio-cni");
  const config: AgentConfig = {
    nodeName: r.required("NODE_NAME"),
    manifestDir: manifestDir === "" ? null : manifestDir,
    selectors: selectors.compiled,
    excludeNamespaces: new Set(excludeNamespaces),
    dnsCapture: r.flag("AMBIENT_DNS_CAPTURE", true),
    ipv6: r.flag("AMBIENT_IPV6", true),
    reconcileRules: r.flag("AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", true),
    preferNft: r.flag("NATIVE_NFTABLES", true),
    forceIptables: r.choice("FORCE_IPTABLES_BINARY", ["legacy", "nft"]),
    runDir,
    zdsSocket: r.path("ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock"),
    hostProc: r.path("HOST_PROC", "/host/proc"),
    hostNetnsPrefix: r.text("HOST_NETNS_PREFIX", "/host"),
    hostNetns: hostNetns(r, isKubernetes),
    probeSource: {
      ipv4: r.address("HOST_PROBE_SNAT_IP", PROBE_SNAT.ipv4, false),
      ipv6: r.address("HOST_PROBE_SNAT_IPV6", PROBE_SNAT.ipv6, true),
    },
    proberUid: r.parsed("KUBELET_UID", "detect", parseUid),
    healthPort: r.port("HEALTH_PORT", 8000) ?? 0,
    monitoringPort: r.port("MONITORING_PORT", 15_014),
    debugPort: r.port("DEBUG_PORT", 9876),
    auditMs: r.integer("AUDIT_INTERVAL_SECONDS", 30, 1, 3600) * 1000,
    install: r.flag("INSTALL_CNI_PLUGIN", isKubernetes)
      ? readInstallConfig(r, { runDir, selectors: selectors.json, excludeNamespaces })
      : null,
    startupTaint: r.flag("REMOVE_STARTUP_TAINT", false)
      ? {
          key: r.text("STARTUP_TAINT_KEY", "cni.istio.io/not-ready"),
          needsZtunnel: r.flag("STARTUP_TAINT_NEEDS_ZTUNNEL", true),
        }
      : null,
    watchNetworkPolicies: r.flag("WATCH_NETWORK_POLICIES", isKubernetes),
    logLevel:
      r.choice("LOG_LEVEL", ["trace", "debug", "info", "warn", "error", "silent"]) ?? "info",
    logFormat: r.choice("LOG_FORMAT", ["plain", "json"]) ?? "plain",
  };
  if (r.faults.length > 0)
    throw new AgentError("BAD_CONFIG", `Cannot start: ${r.faults.join("; ")}`);
  return Object.freeze(config);
}

/** The chart's: a pod that says so, or a namespace that says so and a pod that does not object. */
const DEFAULT_SELECTORS = `
- podSelector:
    matchLabels: {istio.io/dataplane-mode: ambient}
- namespaceSelector:
    matchLabels: {istio.io/dataplane-mode: ambient}
  podSelector:
    matchExpressions:
      - {key: istio.io/dataplane-mode, operator: NotIn, values: [none]}
`;

/** @throws {Error} saying which entry cannot be read */
export function readSelectors(text: string): {
  readonly json: unknown;
  readonly compiled: readonly EnrolmentSelector[];
} {
  const json: unknown = text.trim() === "" ? [] : parseYaml(text);
  return { json, compiled: compileSelectors(json) };
}

/** On Kubernetes the agent has a namespace of its own, or is in the node's: process 1 is right for both. */
function hostNetns(r: SettingReader, isKubernetes: boolean): string | null {
  const path = r.text("HOST_NETNS", "");
  if (path !== "") return path;
  if (!r.flag("ALLOW_SWITCH_TO_HOST_NS", isKubernetes)) return null;
  return `${r.text("HOST_PROC", "/host/proc")}/1/ns/net`;
}

function parseUid(text: string): number | "any" | "detect" {
  if (text === "any" || text === "detect") return text;
  if (!/^\d{1,10}$/.test(text)) throw new Error('expected a user id, "any" or "detect"');
  return Number(text);
}
