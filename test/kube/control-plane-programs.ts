// How the control plane's programs are called: flags, and what each waits for.
import { LabProcess } from "../../lab/process.ts";
import type { KeyPairFiles } from "./authority.ts";
import { program, type Program } from "./binaries.ts";

/** Where the control plane listens and what it hands out. */
export interface ControlPlanePlan {
  readonly dir: string;
  /** What the server listens on: one address, or a wildcard. */
  readonly bindAddress: string;
  /** Where clients find it, and what `kubernetes.default` points at unless that is loopback. */
  readonly address: string;
  readonly serviceCidrs: readonly string[];
  readonly serverCert: KeyPairFiles;
  readonly kubeletClient: KeyPairFiles;
  readonly caFile: string;
  /** PEM: signs service account tokens. */
  readonly serviceAccountKey: KeyPairFiles;
  readonly tokenFile: string;
  readonly extraFlags: readonly string[];
}

export const TOKEN_ISSUER = "https://kubernetes.default.svc.cluster.local";

/** Ends with this process, even when that is killed. */
export async function startProgram(
  name: Program,
  flags: readonly string[],
  logFile: string,
): Promise<LabProcess> {
  const path = await program(name);
  const argv = ["setpriv", "--pdeathsig", "KILL", "--", path, ...flags];
  return await LabProcess.start(argv, { name, logFile });
}

/** Nothing in it needs to survive the machine: without fsync it is several times as fast. */
export function etcdFlags(dir: string, port: number): string[] {
  const url = `http://127.0.0.1:${port}`;
  const peer = "http://127.0.0.1:0"; // nobody ever calls it
  return [
    `--data-dir=${dir}`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peer}`,
    "--unsafe-no-fsync",
    // alone, it elects itself after one election timeout
    "--heartbeat-interval=20",
    "--election-timeout=200",
  ];
}

export function apiServerFlags(plan: ControlPlanePlan, port: number, etcdPort: number): string[] {
  const isLoopback = plan.address.startsWith("127.");
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    `--bind-address=${plan.bindAddress}`,
    `--secure-port=${port}`,
    // the default reconciler refuses to publish a loopback address
    ...(isLoopback ? ["--endpoint-reconciler-type=none"] : [`--advertise-address=${plan.address}`]),
    `--service-cluster-ip-range=${plan.serviceCidrs.join(",")}`,
    `--cert-dir=${plan.dir}/certs`,
    `--tls-cert-file=${plan.serverCert.cert}`,
    `--tls-private-key-file=${plan.serverCert.key}`,
    `--client-ca-file=${plan.caFile}`,
    `--kubelet-client-certificate=${plan.kubeletClient.cert}`,
    `--kubelet-client-key=${plan.kubeletClient.key}`,
    `--token-auth-file=${plan.tokenFile}`,
    `--service-account-issuer=${TOKEN_ISSUER}`,
    `--service-account-key-file=${plan.serviceAccountKey.cert}`,
    `--service-account-signing-key-file=${plan.serviceAccountKey.key}`,
    // nobody resolves nodes' names
    "--kubelet-preferred-address-types=InternalIP",
    "--authorization-mode=Node,RBAC",
    "--allow-privileged=true",
    "--profiling=false",
    "--shutdown-delay-duration=0",
    ...plan.extraFlags,
  ];
}

/** Without these, what a real cluster does by itself does not happen: endpoints, owners, namespaces … */
export function controllerManagerFlags(
  plan: ControlPlanePlan,
  kubeconfig: string,
  controllers: readonly string[],
): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    `--controllers=${controllers.join(",")}`,
    "--leader-elect=false",
    "--secure-port=0",
    `--root-ca-file=${plan.caFile}`,
    `--service-account-private-key-file=${plan.serviceAccountKey.key}`,
    "--use-service-account-credentials=true",
    // it waits for its own limit otherwise, five seconds at start alone
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    // a cluster of seconds must notice in seconds
    "--node-monitor-grace-period=12s",
    "--node-monitor-period=2s",
  ];
}

export function schedulerFlags(kubeconfig: string): string[] {
  return [`--kubeconfig=${kubeconfig}`, "--leader-elect=false", "--secure-port=0"];
}
