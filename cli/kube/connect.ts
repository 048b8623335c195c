// A Kubernetes cluster as commands use it: the API server behind the credentials the flags name.
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { Globals } from "../command.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { requireKubernetes } from "../place.ts";

/** istioctl's and our default for where the control plane lives. */
export const MESH_NAMESPACE = "istio-system";

/** Of one request, however long a command may wait for what it has asked for. */
const MAX_ANSWER_MS = 30_000;

export interface Kube {
  readonly server: ApiServer;
  readonly cluster: ApiServerCluster;
  /** For sentences: `the cluster of context kind-ambit`. */
  readonly name: string;
  /** The context's namespace. */
  readonly namespace: string;
  /** Where istiod and the ztunnels are. */
  readonly meshNamespace: string;
}

/** The client and all it needs load here: 0.1 s that help does without. @throws {CliError} */
export async function connect(flags: Globals, io: Io): Promise<Kube> {
  const [{ openApiServer }, { ApiServerCluster }, { createLogger }] = await Promise.all([
    import("#lib/kube/api-server/open-api-server.ts"),
    import("#lib/kube/api-server/api-server-cluster.ts"),
    import("#lib/obs/log.ts"),
  ]);
  if (flags["as-group"] !== undefined && flags.as === undefined)
    throw new CliError("USAGE", "--as-group goes with --as", ["add --as <user>"]);
  const server = await openApiServer({
    ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
    ...(flags.context === undefined ? {} : { context: flags.context }),
    ...(flags.as === undefined
      ? {}
      : { impersonate: { user: flags.as, groups: flags["as-group"] ?? [] } }),
    userAgent: "ambit",
    deadlineMs: Math.min(flags.timeout, MAX_ANSWER_MS),
  });
  const name = `the cluster of context ${server.context}`;
  if (flags.verbose) io.err(`using ${name} (${server.url})`);
  // What the client would log, commands say themselves.
  const log = createLogger({ scope: "ambit", level: "silent", format: "json" });
  const cluster = new ApiServerCluster(server, { log });
  const meshNamespace = flags["istio-namespace"] ?? MESH_NAMESPACE;
  return { server, cluster, name, namespace: server.namespace, meshNamespace };
}

/** For commands that no lab can carry out. @throws {CliError} */
export async function connectOnly(flags: Globals, io: Io, command: string): Promise<Kube> {
  requireKubernetes(flags, io.env, command);
  return await connect(flags, io);
}
