// The kubeconfig the plugin reads on the node: the agent's own service account, a token written out
// (plugin-token.ts). It is written again whenever that changes.
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { KUBECONFIG_NAME, type InstallConfig } from "./config.ts";

/** The text the file should hold now. @throws when the authority cannot be read */
export function wantedKubeconfig(config: InstallConfig, token: string): string {
  const caFile = config.caFile ?? join(config.serviceAccountDir, "ca.crt");
  const trust = config.skipTlsVerify
    ? "insecure-skip-tls-verify: true"
    : `certificate-authority-data: ${readFileSync(caFile).toString("base64")}`;
  return [
    "# Kubeconfig of the CNI plugin. The agent of istio-cni-node writes it again when its token changes.",
    "apiVersion: v1",
    "kind: Config",
    "clusters:",
    "- name: local",
    "  cluster:",
    `    server: ${JSON.stringify(config.apiServer)}`,
    `    ${trust}`,
    "users:",
    "- name: istio-cni",
    "  user:",
    `    token: ${JSON.stringify(token)}`,
    "contexts:",
    "- name: istio-cni-context",
    "  context:",
    "    cluster: local",
    "    user: istio-cni",
    "current-context: istio-cni-context",
    "",
  ].join("\n");
}

/** Whether the file on the node holds `text` and is closed to others. */
export function isKubeconfigCurrent(config: InstallConfig, text: string): boolean {
  const path = kubeconfigPath(config);
  try {
    return (
      readFileSync(path, "utf8") === text && (statSync(path).mode & 0o777) === config.kubeconfigMode
    );
  } catch {
    return false;
  }
}

export function kubeconfigPath(config: InstallConfig): string {
  return join(config.runDir, KUBECONFIG_NAME);
}
