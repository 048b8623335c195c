// Which kind of cluster this is, by its nodes; and what about its CNI folders the manifests must know.
import type { Node } from "#lib/kube/objects.ts";
import type { Finding } from "./check.ts";

export const PLATFORMS = [
  "kind",
  "k3s",
  "microk8s",
  "minikube",
  "gke",
  "openshift",
  "other",
] as const;
export type Platform = (typeof PLATFORMS)[number];

export function platformOf(nodes: readonly Node[]): Platform {
  for (const node of nodes) {
    const { providerID = "" } = (node.spec ?? {}) as { readonly providerID?: string };
    const { nodeInfo } = (node.status ?? {}) as {
      readonly nodeInfo?: { readonly kubeletVersion?: string; readonly osImage?: string };
    };
    const labels = node.metadata.labels ?? {};
    const has = (key: string): boolean => Object.keys(labels).some((l) => l.startsWith(key));
    if (providerID.startsWith("kind://")) return "kind";
    if (nodeInfo?.kubeletVersion?.includes("+k3s") === true) return "k3s";
    if (has("microk8s.io/")) return "microk8s";
    if (has("minikube.k8s.io/")) return "minikube";
    if (providerID.startsWith("gce://") && has("cloud.google.com/gke")) return "gke";
    if (has("node.openshift.io/")) return "openshift";
  }
  return "other";
}

/** Folders that differ from /opt/cni/bin, /etc/cni/net.d and /var/run/netns. */
const OTHER_PATHS: Partial<Record<Platform, string>> = {
  k3s: "cni-bin-dir /var/lib/rancher/k3s/data/cni, cni-net-dir /var/lib/rancher/k3s/agent/etc/cni/net.d",
  microk8s:
    "cni-bin-dir /var/snap/microk8s/current/opt/cni/bin, cni-net-dir /var/snap/microk8s/current/args/cni-network",
  minikube: "cni-netns-dir /var/run/docker/netns with the docker runtime",
  gke: "cni-bin-dir /home/kubernetes/bin",
  openshift: "cni-bin-dir /var/lib/cni/bin, cni-net-dir /etc/cni/multus/net.d",
};

export function platformFindings(platform: Platform): readonly Finding[] {
  const paths = OTHER_PATHS[platform];
  if (paths === undefined) return [];
  return [
    {
      text: `this looks like ${platform}, which keeps CNI files elsewhere`,
      object: "daemonset/istio-system/istio-cni-node",
      hint: `patch its volumes in an overlay of your own: ${paths}`,
    },
  ];
}
