// The mesh on a test cluster, installed from the manifests as a user would, and pods to try it with.
import { join } from "node:path";
import { clientEvents } from "../../lab/workloads.ts";
import { WORKLOAD_IMAGE } from "./images.ts";
import type { KubeCluster } from "./kube-cluster.ts";

const OVERLAY = join(import.meta.dirname, "../../manifests/overlays/kind");
const NAMESPACE = "istio-system";
const PARTS = ["deployment/istiod", "daemonset/istio-cni-node", "daemonset/ztunnel"];
const ROLLOUT_MS = 90_000;

/** Needs a cluster with `crds: ["gateway-api"]` and `images: ["ambit", "workload"]`. Resolves when all parts are ready. */
export async function installMesh(cluster: KubeCluster): Promise<void> {
  await cluster.kubectl(["apply", "--server-side", "-k", OVERLAY]);
  await rolledOut(cluster);
}

/** Waits until the parts are ready everywhere, as after an update. */
export async function rolledOut(cluster: KubeCluster, parts = PARTS): Promise<void> {
  for (const part of parts) {
    const flags = ["-n", NAMESPACE, `--timeout=${ROLLOUT_MS / 1000}s`];
    await cluster.kubectl(["rollout", "status", part, ...flags], undefined, ROLLOUT_MS + 5_000);
  }
}

export interface WorkloadPod {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  /** Its own account by default, named as the pod; it must exist. */
  readonly serviceAccount?: string;
  readonly command?: readonly string[];
  readonly probes?: object;
}

/** Echoes each line on port 8080, behind the name, unless it is given another command. */
export function workloadPod(options: WorkloadPod): object {
  const { name, namespace, node, serviceAccount = name } = options;
  const echo = ["node", "/workloads/echo-server.ts", "--port=8080", `--name=${name}`];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      nodeName: node,
      serviceAccountName: serviceAccount,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: "main",
          image: WORKLOAD_IMAGE,
          imagePullPolicy: "Never",
          command: options.command ?? echo,
          ...(options.probes ?? {
            readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
          }),
        },
      ],
    },
  };
}

/** Does nothing until it is told to. */
export function idlePod(options: Omit<WorkloadPod, "command" | "probes">): object {
  return workloadPod({ ...options, command: ["sleep", "100000"], probes: {} });
}

export function serviceAccount(namespace: string, name: string): object {
  return { apiVersion: "v1", kind: "ServiceAccount", metadata: { namespace, name } };
}

/** Port 80 to port 8080 of the pods of that name. */
export function service(namespace: string, name: string): object {
  const spec = { selector: { app: name }, ports: [{ port: 80, targetPort: 8080 }] };
  return { apiVersion: "v1", kind: "Service", metadata: { namespace, name }, spec };
}

export interface Reply {
  /** "<server name> <client address> <text> <n>", or why there was none. */
  readonly text: string;
  readonly isAnswer: boolean;
}

/** One line of text from a pod to `host:port`. */
export async function ask(
  cluster: KubeCluster,
  from: { readonly namespace: string; readonly name: string },
  host: string,
  port: number,
  text: string,
): Promise<Reply> {
  const flags = [`--host=${host}`, `--port=${port}`, `--text=${text}`, "--count=1"];
  const argv = ["timeout", "10", "node", "/workloads/client.ts", ...flags];
  const { stdout, stderr } = await cluster.exec(from.namespace, from.name, argv);
  const last = clientEvents(stdout).find((e) => e.answer !== undefined || e.error !== undefined);
  if (last?.answer !== undefined) return { text: last.answer, isAnswer: true };
  return { text: last?.error ?? stderr, isAnswer: false };
}
