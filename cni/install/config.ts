// Where the plugin goes on the node and how it is told there. Names are Istio's; paths are as the agent's
// container sees them, except what the plugin itself reads on the node.
import type { SettingReader } from "../setting-reader.ts";

export interface InstallConfig {
  /** Holds what is to be copied; every regular file in it is. */
  readonly sourceDir: string;
  readonly binDir: string;
  readonly netDir: string;
  /** The one file to use instead of the first by name; `null` chooses at every pass. */
  readonly confName: string | null;
  /** Ours is one of a list of plugins; else a file of its own (Multus). */
  readonly isChained: boolean;
  /** Name of a copy of the primary file with our entry, which leaves the primary alone; `null` for none. */
  readonly ownConfigName: string | null;
  /** Of files that did not exist. */
  readonly confMode: number;
  readonly kubeconfigMode: number;
  /** Directory of sockets, kubeconfig and log: one path on the node and here. */
  readonly runDir: string;
  /** Token and authority of the agent's own service account. */
  readonly serviceAccountDir: string;
  /** PEM file used instead of the service account's. */
  readonly caFile: string | null;
  readonly skipTlsVerify: boolean;
  readonly apiServer: string;
  readonly podNamespace: string;
  readonly daemonSet: string;
  /** Clean up at every exit. */
  readonly cleansAlways: boolean;
  /** Our entry in the list of plugins. */
  readonly entry: PluginEntry;
}

/** An entry of `plugins`; the plugin's README lists its keys. */
export interface PluginEntry {
  readonly name: string;
  readonly type: string;
  readonly [key: string]: unknown;
}

export const PLUGIN_TYPE = "istio-cni";
export const KUBECONFIG_NAME = "istio-cni-kubeconfig";
const OWN_CONFIG_NAME = "02-istio-cni.conflist";

export function readInstallConfig(
  r: SettingReader,
  o: {
    readonly runDir: string;
    readonly selectors: unknown;
    readonly excludeNamespaces: readonly string[];
  },
): InstallConfig {
  const caFile = r.text("KUBE_CA_FILE", "");
  const podNamespace = r.text("POD_NAMESPACE", "istio-system");
  const isChained = r.flag("CHAINED_CNI_PLUGIN", true);
  const isOwn = r.flag("ISTIO_OWNED_CNI_CONFIG", false);
  if (isOwn && !isChained)
    r.fault("ISTIO_OWNED_CNI_CONFIG=true needs CHAINED_CNI_PLUGIN=true: it is a copy of a chain");
  return {
    sourceDir: r.path("CNI_BIN_SOURCE_DIR", "/opt/cni/bin"),
    binDir: r.path("MOUNTED_CNI_BIN_DIR", "/host/opt/cni/bin"),
    netDir: r.path("MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d"),
    confName: r.fileName("CNI_CONF_NAME"),
    isChained,
    // Istio's chart writes the second name, its agent reads the first
    ownConfigName: isOwn
      ? (r.fileName("ISTIO_OWNED_CNI_CONFIG_FILENAME") ??
        r.fileName("ISTIO_OWNED_CNI_CONF_FILENAME") ??
        OWN_CONFIG_NAME)
      : null,
    confMode: r.flag("CNI_CONF_GROUP_READ", false) ? 0o640 : 0o600,
    kubeconfigMode: r.mode("KUBECONFIG_MODE", 0o600),
    runDir: o.runDir,
    serviceAccountDir: r.path(
      "SERVICE_ACCOUNT_DIR",
      "/var/run/secrets/kubernetes.io/serviceaccount",
    ),
    caFile: caFile === "" ? null : caFile,
    skipTlsVerify: r.flag("SKIP_TLS_VERIFY", false),
    apiServer: apiServerUrl(r),
    podNamespace,
    daemonSet: r.text("CNI_DAEMONSET_NAME", "istio-cni-node"),
    cleansAlways: r.flag("AMBIENT_DISABLE_SAFE_UPGRADE", false),
    entry: {
      name: PLUGIN_TYPE,
      type: PLUGIN_TYPE,
      plugin_log_level: r.choice("PLUGIN_LOG_LEVEL", ["debug", "info", "warn", "error"]) ?? "info",
      cni_agent_run_dir: o.runDir,
      ambient_enabled: r.flag("AMBIENT_ENABLED", true),
      enablement_selectors: o.selectors,
      exclude_namespaces: o.excludeNamespaces,
      pod_namespace: podNamespace,
      enable_ambient_detection_retry: r.flag("ENABLE_AMBIENT_DETECTION_RETRY", false),
    },
  };
}

/** As the plugin reaches it from the node. */
function apiServerUrl(r: SettingReader): string {
  const host = r.required("KUBERNETES_SERVICE_HOST");
  const port = r.integer("KUBERNETES_SERVICE_PORT", 443, 1, 65_535);
  const protocol = r.choice("KUBERNETES_SERVICE_PROTOCOL", ["https", "http"]) ?? "https";
  return `${protocol}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
