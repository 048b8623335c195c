// Settings of the node agent, read once from the environment. Names are Istio's; defaults are those
// of its Helm chart, except that nftables is preferred over iptables.
import { isAbsolute } from "node:path";
import { tryParseIp } from "#lib/net/ip.ts";
import { PROBE_SNAT } from "../rules/constants.ts";
import type { PerFamily } from "../rules/plan.ts";
import { parseSelectors, type EnrolmentSelector } from "./enrolment.ts";
import { AgentError } from "./errors.ts";

export interface AgentConfig {
  readonly nodeName: string;
  /** Directory of manifests that stands in for the API server; `null` outside the lab. */
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
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  readonly logFormat: "plain" | "json";
}

export interface Environment {
  readonly [name: string]: string | undefined;
}

/** @throws {AgentError} `BAD_CONFIG` naming every setting that cannot be read */
export function readConfig(env: Environment): AgentConfig {
  const r = new Reader(env);
  const manifestDir = r.text("MANIFEST_DIR", "");
  const config: AgentConfig = {
    nodeName: r.required("NODE_NAME"),
    manifestDir: manifestDir === "" ? null : manifestDir,
    selectors: r.parsed("AMBIENT_ENABLEMENT_SELECTOR", DEFAULT_SELECTORS, parseSelectors),
    excludeNamespaces: new Set(
      r
        .text("EXCLUDE_NAMESPACES", "kube-system")
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    ),
    dnsCapture: r.flag("AMBIENT_DNS_CAPTURE", true),
    ipv6: r.flag("AMBIENT_IPV6", true),
    reconcileRules: r.flag("AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", true),
    preferNft: r.flag("NATIVE_NFTABLES", true),
    forceIptables: r.choice("FORCE_IPTABLES_BINARY", ["legacy", "nft"]),
    runDir: r.path("CNI_AGENT_RUN_DIR", "/var/run/istio-cni"),
    zdsSocket: r.path("ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock"),
    hostProc: r.path("HOST_PROC", "/host/proc"),
    hostNetnsPrefix: r.text("HOST_NETNS_PREFIX", "/host"),
    hostNetns: hostNetns(r),
    probeSource: {
      ipv4: r.address("HOST_PROBE_SNAT_IP", PROBE_SNAT.ipv4, false),
      ipv6: r.address("HOST_PROBE_SNAT_IPV6", PROBE_SNAT.ipv6, true),
    },
    proberUid: r.parsed("KUBELET_UID", "detect", parseUid),
    healthPort: r.port("HEALTH_PORT", 8000) ?? 0,
    monitoringPort: r.port("MONITORING_PORT", 15_014),
    debugPort: r.port("DEBUG_PORT", 9876),
    auditMs: r.integer("AUDIT_INTERVAL_SECONDS", 30, 1, 3600) * 1000,
    logLevel:
      r.choice("LOG_LEVEL", ["trace", "debug", "info", "warn", "error", "silent"]) ?? "info",
    logFormat: r.choice("LOG_FORMAT", ["plain", "json"]) ?? "plain",
  };
  r.finish();
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

function hostNetns(r: Reader): string | null {
  const path = r.text("HOST_NETNS", "");
  if (path !== "") return path;
  if (!r.flag("ALLOW_SWITCH_TO_HOST_NS", false)) return null;
  return `${r.text("HOST_PROC", "/host/proc")}/1/ns/net`;
}

function parseUid(text: string): number | "any" | "detect" {
  if (text === "any" || text === "detect") return text;
  if (!/^\d{1,10}$/.test(text)) throw new Error('expected a user id, "any" or "detect"');
  return Number(text);
}

/** Collects what is wrong, so that one start shows every mistake. */
class Reader {
  readonly #env: Environment;
  readonly #faults: string[] = [];

  constructor(env: Environment) {
    this.#env = env;
  }

  text(name: string, fallback: string): string {
    return this.#env[name] ?? fallback;
  }

  required(name: string): string {
    const value = this.text(name, "");
    if (value === "") this.#faults.push(`${name} is not set`);
    return value;
  }

  path(name: string, fallback: string): string {
    const value = this.text(name, fallback);
    if (!isAbsolute(value)) this.#faults.push(`${name}=${value} is not an absolute path`);
    return value;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.text(name, String(fallback)).toLowerCase();
    if (["true", "1", "t"].includes(value)) return true;
    if (!["false", "0", "f", ""].includes(value))
      this.#faults.push(`${name}=${value} is not true or false`);
    return false;
  }

  /** `null` when absent or empty. */
  choice<T extends string>(name: string, choices: readonly T[]): T | null {
    const value = this.text(name, "");
    if (value === "") return null;
    const found = choices.find((c) => c === value);
    if (found === undefined) this.#faults.push(`${name}=${value} is none of ${choices.join(", ")}`);
    return found ?? null;
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.text(name, String(fallback));
    const number = /^-?\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    this.#faults.push(`${name}=${value} is not a number from ${least} to ${most}`);
    return fallback;
  }

  /** `null` for a negative number: disabled. */
  port(name: string, fallback: number): number | null {
    const number = this.integer(name, fallback, -1, 65_535);
    return number < 0 ? null : number;
  }

  address(name: string, fallback: string, isV6: boolean): string {
    const value = this.text(name, fallback);
    const ip = tryParseIp(value);
    if (ip === null || ip.includes(":") !== isV6)
      this.#faults.push(`${name}=${value} is not an IPv${isV6 ? 6 : 4} address`);
    return ip ?? fallback;
  }

  parsed<T>(name: string, fallback: string, parse: (text: string) => T): T {
    const value = this.text(name, fallback);
    try {
      return parse(value);
    } catch (error) {
      this.#faults.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return parse(fallback);
    }
  }

  finish(): void {
    if (this.#faults.length > 0)
      throw new AgentError("BAD_CONFIG", `Cannot start: ${this.#faults.join("; ")}`);
  }
}
