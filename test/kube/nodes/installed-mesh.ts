// A test cluster with the mesh installed, and what an observer can tell from outside about its pods: who they are, what
// is inside their network namespaces, what the node proxies logged, what crossed the link.
import type { Capture } from "../../../lab/capture.ts";
import { crossedBetween, type Crossed } from "../../../lab/pcap.ts";
import { KubeCluster, type KubeClusterOptions } from "../kube-cluster.ts";
import type { KubeNode } from "../kube-node.ts";
import { installMesh } from "../mesh.ts";

const MODE = "istio.io/dataplane-mode";
const REDIRECTION = "ambient.istio.io/redirection";
/** What a proxy in a pod listens on. */
const PROXY_PORTS = /:(15001|15006|15008|15053)\b/;

/** Installed with kubectl from the overlay for kind; resolves when every part is ready. */
export async function startMesh(options: KubeClusterOptions = {}): Promise<KubeCluster> {
  await using undo = new AsyncDisposableStack();
  const cluster = undo.use(
    await KubeCluster.start({ crds: ["gateway-api"], images: ["ambit", "workload"], ...options }),
  );
  const startMs = Date.now();
  await installMesh(cluster);
  const { nodesReady } = cluster.startupMs;
  console.log(`nodes ready after ${nodesReady} ms, the mesh ${Date.now() - startMs} ms later`);
  undo.move();
  return cluster;
}

export interface RunningPod {
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  readonly ips: readonly string[];
  readonly restarts: number;
  readonly ready: boolean;
  /** The agent's own note, that its traffic passes the proxy. */
  readonly captured: boolean;
  readonly ending: boolean;
}

interface PodList {
  readonly items: readonly {
    readonly metadata: {
      readonly name: string;
      readonly uid: string;
      readonly deletionTimestamp?: string;
      readonly annotations?: Readonly<Record<string, string>>;
    };
    readonly spec: { readonly nodeName?: string };
    readonly status: {
      readonly podIPs?: readonly { readonly ip: string }[];
      readonly containerStatuses?: readonly { restartCount: number; ready: boolean }[];
    };
  }[];
}

/** By name; all of the namespace, or those of a label selector. */
export async function podsOf(
  cluster: KubeCluster,
  namespace: string,
  selector?: string,
): Promise<readonly RunningPod[]> {
  const args = ["get", "pods", "-n", namespace, "-o", "json"];
  if (selector !== undefined) args.push("-l", selector);
  const { items } = JSON.parse((await cluster.kubectl(args)).stdout) as PodList;
  return items.map(({ metadata, spec, status }) => ({
    name: metadata.name,
    uid: metadata.uid,
    node: spec.nodeName ?? "",
    ips: (status.podIPs ?? []).map(({ ip }) => ip),
    restarts: status.containerStatuses?.[0]?.restartCount ?? 0,
    ready: status.containerStatuses?.every((c) => c.ready) === true,
    captured: metadata.annotations?.[REDIRECTION] === "enabled",
    ending: metadata.deletionTimestamp !== undefined,
  }));
}

/** Labels the namespace and waits until the agents have followed with every pod. @returns how long that took */
export async function enrol(cluster: KubeCluster, namespace: string): Promise<number> {
  return await relabel(cluster, namespace, true);
}

/** The other way round. */
export async function unenrol(cluster: KubeCluster, namespace: string): Promise<number> {
  return await relabel(cluster, namespace, false);
}

async function relabel(cluster: KubeCluster, namespace: string, into: boolean): Promise<number> {
  const startMs = Date.now();
  const label = into ? `${MODE}=ambient` : `${MODE}-`;
  await cluster.kubectl(["label", "namespace", namespace, label, "--overwrite"]);
  await cluster.until(`the pods of ${namespace} to be ${into ? "in" : "out"}`, async () =>
    (await podsOf(cluster, namespace)).every((pod) => pod.captured === into),
  );
  return Date.now() - startMs;
}

/** What the mesh has inside one pod. */
export interface Inside {
  readonly rules: readonly string[];
  readonly listeners: readonly string[];
}

/** Looked at from the node, in the pod's network namespace. */
export async function insideOf(cluster: KubeCluster, pod: RunningPod): Promise<Inside> {
  const { stdout } = await cluster.node(pod.node).exec(["sh", "-c", LOOK_INSIDE, pod.ips[0] ?? ""]);
  const [rules = "", listeners = ""] = stdout.split("--\n");
  return {
    rules: rules.split("\n").filter((line) => line !== ""),
    listeners: listeners.split("\n").filter((line) => PROXY_PORTS.test(line)),
  };
}

/** `$0` is the pod's address. Any nftables or iptables rule counts, and any policy route but the kernel's own. */
const LOOK_INSIDE = `
for ns in /run/netns/*; do
  in="nsenter --net=$ns"
  $in ip -o address | grep -qF " $0/" || continue
  $in nft list ruleset
  for tool in iptables-save ip6tables-save iptables-legacy-save ip6tables-legacy-save; do
    $in $tool 2>/dev/null | grep -- ^-A
  done
  for family in -4 -6; do
    $in ip $family rule | grep -vE 'lookup (local|main|default)$'
    $in ip $family route show table 100 2>/dev/null
  done
  echo --
  $in ss -Hltn
  exit 0
done
echo "no namespace has the address $0" >&2
exit 1`;

/** A line of a node proxy's access log: its fields, and `message`. */
export type AccessLine = Readonly<Record<string, string>>;

/** Of both nodes, for connections that have ended or were refused. */
export async function accessLog(cluster: KubeCluster): Promise<readonly AccessLine[]> {
  const args = ["logs", "-n", "istio-system", "-l", "app=ztunnel", "--tail=-1"];
  const { stdout } = await cluster.kubectl(args);
  return stdout
    .split("\n")
    .filter((line) => /\taccess\t/.test(line))
    .map((line) => {
      const fields = [...line.matchAll(/([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))/g)];
      const parsed = fields.map(([, key = "", quoted, bare]) => [key, quoted ?? bare ?? ""]);
      return { ...Object.fromEntries(parsed), message: line.split("\t")[3] ?? "" };
    });
}

/** Between these pods. */
export async function crossed(capture: Capture, pods: readonly RunningPod[]): Promise<Crossed> {
  return crossedBetween(await capture.flows(), new Set(pods.flatMap((pod) => pod.ips)));
}

/**
 * What of ours a node has outside of pods: rules, CNI configuration and plugin, sockets. Empty without the mesh, but for
 * two empty folders in /run, which the kubelet made to mount them.
 */
export async function tracesOn(node: KubeNode): Promise<readonly string[]> {
  const { stdout } = await node.exec(["sh", "-c", LOOK_ON_NODE]);
  return stdout.split("\n").filter((line) => line !== "");
}

const LOOK_ON_NODE = `
nft list tables | grep -iE 'istio|ambit'
for tool in iptables-save ip6tables-save iptables-legacy-save ip6tables-legacy-save; do
  $tool 2>/dev/null | grep -iE 'istio|ambit'
done
ipset list -name 2>/dev/null | grep -iE 'istio|ambit'
ip rule | grep -vE 'lookup (local|main|default)$'
grep -HiE 'istio|ambit' /etc/cni/net.d/* 2>/dev/null
find /etc/cni /opt/cni /run /var/lib/cni -not -type d -not -path '*/containerd/*' | grep -iE 'istio|ambit|ztunnel'
true`;
