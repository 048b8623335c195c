// Configuration of a node's programs: containerd, CNI, kubelet and kube-proxy.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PAUSE_IMAGE } from "./images.ts";

export const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";
export const CNI_CONFIG = "etc/cni/net.d/10-bridge.conflist";

export interface NodeFilesOptions {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  readonly clusterPodCidrs: readonly string[];
  readonly clusterDns: readonly string[];
  /** Of this node's containers, below each controller's root. */
  readonly cgroupRoot: string;
  readonly proxyMode: "nftables" | "iptables";
}

/** Writes below `disk`, as paths from the node's root. */
export function writeNodeFiles(disk: string, options: NodeFilesOptions): void {
  const write = (path: string, content: string | object): void => {
    mkdirSync(dirname(join(disk, path)), { recursive: true });
    const text = typeof content === "string" ? content : JSON.stringify(content, null, 2);
    writeFileSync(join(disk, path), text, { mode: 0o600 });
  };
  write("etc/containerd/config.toml", CONTAINERD);
  write(CNI_CONFIG, cniConfig(options));
  write("etc/kubernetes/kubelet.json", kubeletConfig(options));
  write("etc/kubernetes/kube-proxy.json", proxyConfig(options));
  // the lab has no outside: the cluster's DNS is all there is
  write("etc/kubernetes/resolv.conf", "");
  const names = [
    "127.0.0.1 localhost",
    "::1 localhost",
    ...options.addresses.map((a) => `${a} ${options.name}`),
  ];
  write("etc/hosts", `${names.join("\n")}\n`);
}

const CONTAINERD = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "${CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  # without CAP_SYS_RESOURCE nobody may lower a process's score
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
`;

function cniConfig({ podCidrs }: NodeFilesOptions): object {
  const bridge = {
    type: "bridge",
    bridge: "cni0",
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: false,
    hairpinMode: true,
    ipam: {
      type: "host-local",
      dataDir: "/var/lib/cni/networks",
      ranges: podCidrs.map((subnet) => [{ subnet }]),
    },
  };
  return { cniVersion: "1.0.0", name: "bridge", plugins: [bridge] };
}

function kubeletConfig(options: NodeFilesOptions): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: "/etc/kubernetes/ca.crt" },
    },
    authorization: { mode: "Webhook" },
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    clusterDomain: "cluster.local",
    clusterDNS: options.clusterDns,
    resolvConf: "/etc/kubernetes/resolv.conf",
    // the hierarchy is the machine's: a node may only have a corner of it
    cgroupDriver: "cgroupfs",
    cgroupRoot: options.cgroupRoot,
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    // node-init.sh makes the machine's settings look as wanted
    protectKernelDefaults: true,
    localStorageCapacityIsolation: false,
    evictionHard: {
      "memory.available": "1Mi",
      "nodefs.available": "0.1%",
      "nodefs.inodesFree": "0.1%",
      "imagefs.available": "0.1%",
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    nodeStatusUpdateFrequency: "2s",
    // pods follow changed ConfigMaps and Secrets within seconds
    syncFrequency: "10s",
    maxPods: 110,
    podLogsDir: "/var/log/pods",
  };
}

function proxyConfig(options: NodeFilesOptions): object {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: options.proxyMode,
    hostnameOverride: options.name,
    clientConnection: { kubeconfig: "/etc/kubernetes/kube-proxy.kubeconfig" },
    clusterCIDR: options.clusterPodCidrs.join(","),
    detectLocalMode: "ClusterCIDR",
    // settings of the whole machine: left alone
    conntrack: {
      maxPerCore: 0,
      min: 0,
      tcpEstablishedTimeout: "0s",
      tcpCloseWaitTimeout: "0s",
    },
    // rules follow a change at once
    nftables: { minSyncPeriod: "10ms" },
    iptables: { minSyncPeriod: "10ms" },
  };
}
