// How each mesh part is started in the lab: program, environment and the question that tells it is ready.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { hasV6, type IpFamilies } from "./address-plan.ts";
import { LabError } from "./errors.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER } from "./tokens.ts";

export const PARTS = ["istiod", "ztunnel", "cni"] as const;
export type PartName = (typeof PARTS)[number];

export const ROOT = resolve(import.meta.dirname, "..");
export const ISTIOD_HOST = "istiod.istio-system.svc";
export const SYSTEM_NAMESPACE = "istio-system";
export const TRUST_DOMAIN = "cluster.local";

const PROGRAM: Readonly<Record<PartName, string>> = {
  istiod: "istiod/main.ts",
  ztunnel: "ztunnel/main.ts",
  cni: "cni/agent/main.ts",
};

/** Istio's chart: a labelled namespace without the pod opting out, or a labelled pod. */
const ENABLEMENT_SELECTORS = [
  { podSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } } },
  {
    namespaceSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } },
    podSelector: {
      matchExpressions: [{ key: "istio.io/dataplane-mode", operator: "NotIn", values: ["none"] }],
    },
  },
];
const EXCLUDED_NAMESPACES = [SYSTEM_NAMESPACE, "kube-system"];

/** What the parts of one lab share. */
export interface MeshFiles {
  readonly manifestDir: string;
  readonly jwksFile: string;
  readonly rootCertFile: string;
  readonly caStateDir: string;
  readonly families: IpFamilies;
  readonly logLevel: string;
  readonly nativeNftables: boolean;
  readonly workers: number;
}

/** What is particular to a node. */
export interface NodeFiles {
  readonly name: string;
  readonly address: string;
  readonly netnsPath: string;
  readonly hostProc: string;
  readonly runDir: string;
  readonly tokenFile: string;
}

export interface ReadyQuestion {
  readonly port: number;
  readonly path: string;
}

export interface PartPlan {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly ready: ReadyQuestion;
}

const ztunnelSocket = (runDir: string): string => join(runDir, "ztunnel.sock");

/** Common to all parts: nothing of the caller's mesh settings may leak in. */
function planFor(
  part: PartName,
  env: Readonly<Record<string, string>>,
  ready: ReadyQuestion,
): PartPlan {
  const program = join(ROOT, PROGRAM[part]);
  if (!existsSync(program))
    throw new LabError("MISSING_PROGRAM", `Cannot start ${part}: ${PROGRAM[part]} does not exist`);
  return { argv: [process.execPath, program], env, ready };
}

export function istiodPlan(files: MeshFiles): PartPlan {
  return planFor(
    "istiod",
    {
      MANIFEST_DIR: files.manifestDir,
      ISTIOD_ADDR: hasV6(files.families) ? "[::]:15012" : "0.0.0.0:15012",
      MONITORING_ADDR: "127.0.0.1:15014",
      JWKS_FILE: files.jwksFile,
      TOKEN_AUDIENCES: TOKEN_AUDIENCE,
      TOKEN_ISSUER,
      CA_STATE_DIR: files.caStateDir,
      ROOT_CERT_FILE: files.rootCertFile,
      TRUST_DOMAIN,
      CLUSTER_ID: "Kubernetes",
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      POD_NAME: "istiod-0",
      CA_TRUSTED_NODE_ACCOUNTS: `${SYSTEM_NAMESPACE}/ztunnel`,
      LOG_LEVEL: files.logLevel,
    },
    { port: 15_014, path: "/ready" },
  );
}

export function ztunnelPlan(files: MeshFiles, node: NodeFiles): PartPlan {
  return planFor(
    "ztunnel",
    {
      NODE_NAME: node.name,
      XDS_ADDRESS: `https://${ISTIOD_HOST}:15012`,
      CA_ADDRESS: `https://${ISTIOD_HOST}:15012`,
      XDS_ROOT_CA: files.rootCertFile,
      CA_ROOT_CA: files.rootCertFile,
      AUTH_TOKEN: node.tokenFile,
      INPOD_UDS: ztunnelSocket(node.runDir),
      ISTIO_META_CLUSTER_ID: "Kubernetes",
      POD_NAME: `ztunnel-${node.name}`,
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      SERVICE_ACCOUNT: "ztunnel",
      INSTANCE_IP: node.address,
      IPV6_ENABLED: String(hasV6(files.families)),
      TERMINATION_GRACE_PERIOD_SECONDS: "10",
      ZTUNNEL_WORKER_THREADS: String(files.workers),
      RUST_LOG: files.logLevel,
    },
    { port: 15_021, path: "/healthz/ready" },
  );
}

export function cniPlan(files: MeshFiles, node: NodeFiles): PartPlan {
  return planFor(
    "cni",
    {
      NODE_NAME: node.name,
      MANIFEST_DIR: files.manifestDir,
      AMBIENT_ENABLED: "true",
      AMBIENT_ENABLEMENT_SELECTOR: JSON.stringify(ENABLEMENT_SELECTORS),
      AMBIENT_DNS_CAPTURE: "true",
      AMBIENT_IPV6: String(hasV6(files.families)),
      AMBIENT_RECONCILE_POD_RULES_ON_STARTUP: "true",
      NATIVE_NFTABLES: String(files.nativeNftables),
      EXCLUDE_NAMESPACES: EXCLUDED_NAMESPACES.join(","),
      SYSTEM_NAMESPACE,
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      POD_NAME: `istio-cni-node-${node.name}`,
      CNI_AGENT_RUN_DIR: node.runDir,
      ZTUNNEL_UDS_ADDRESS: ztunnelSocket(node.runDir),
      HOST_PROC: node.hostProc,
      HOST_NETNS_PREFIX: "",
      HOST_NETNS: node.netnsPath,
      HEALTH_PORT: "8000",
      MONITORING_PORT: "15014",
      LOG_LEVEL: files.logLevel,
    },
    { port: 8000, path: "/readyz" },
  );
}

/** The plugin's entry in the chain, as the agent's installer writes it. */
export function pluginConfig(runDir: string): { type: string; [key: string]: unknown } {
  return {
    type: "istio-cni",
    name: "istio-cni",
    plugin_log_level: "info",
    cni_agent_run_dir: runDir,
    ambient_enabled: true,
    enablement_selectors: ENABLEMENT_SELECTORS,
    exclude_namespaces: EXCLUDED_NAMESPACES,
    pod_namespace: SYSTEM_NAMESPACE,
  };
}
