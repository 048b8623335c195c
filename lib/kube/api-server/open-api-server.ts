// Finds the API server and its credentials: a kubeconfig, or the service account of the pod we run in.
import { access, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { KubeError } from "../errors.ts";
import { ApiServer } from "./api-server.ts";
import { type CredentialSource, type Endpoint, serviceAccountCredentials } from "./credentials.ts";

export interface OpenApiServerOptions {
  /** Path of a kubeconfig. Without: `KUBECONFIG`, `~/.kube/config`, the pod's service account. */
  readonly kubeconfig?: string;
  /** A context of the kubeconfig instead of its current one. */
  readonly context?: string;
  readonly impersonate?: { readonly user: string; readonly groups?: readonly string[] };
  /** For `User-Agent`: the program's name. */
  readonly userAgent?: string;
  /** Longest wait for the answer to a request that does not say otherwise; 30 s without. */
  readonly deadlineMs?: number;
  /** Where the pod's `token`, `ca.crt` and `namespace` are mounted. */
  readonly serviceAccountDir?: string;
  /** Instead of this process's, for tests. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * The caller owns the result. Nothing is asked of the server yet.
 * @throws {KubeError} `CONFIG` naming the file and what is wrong with it
 */
export async function openApiServer(options: OpenApiServerOptions = {}): Promise<ApiServer> {
  const endpoint = await findEndpoint(options);
  const { impersonate } = options;
  const credentials =
    impersonate === undefined ? endpoint.credentials : as(impersonate, endpoint.credentials);
  return new ApiServer(
    { ...endpoint, credentials },
    options.userAgent ?? "ambit",
    options.deadlineMs,
  );
}

async function findEndpoint(options: OpenApiServerOptions): Promise<Endpoint> {
  // oxlint-disable-next-line node/no-process-env -- KUBECONFIG and KUBERNETES_* are Kubernetes' own interface
  const environment = options.environment ?? process.env;
  const dir = options.serviceAccountDir ?? SERVICE_ACCOUNT_DIR;
  const files = await kubeconfigFiles(options, environment);
  if (files.length > 0) {
    const { endpointOf, readKubeconfig } = await import("./kubeconfig.ts"); // not wanted in a pod
    return endpointOf(await readKubeconfig(files), options.context);
  }
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = environment;
  if (!host)
    throw new KubeError(
      "CONFIG",
      "No cluster to talk to: there is no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod (KUBERNETES_SERVICE_HOST is not set)",
    );
  const namespace = await readFile(join(dir, "namespace"), "utf8").catch(() => "default");
  return {
    url: new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`),
    serverName: null,
    isUnverified: false,
    context: "in-cluster",
    namespace: namespace.trim(),
    credentials: serviceAccountCredentials(dir),
  };
}

/** Empty: use the pod's service account. */
async function kubeconfigFiles(
  options: OpenApiServerOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<readonly string[]> {
  if (options.kubeconfig !== undefined) return [options.kubeconfig];
  const listed = (environment.KUBECONFIG ?? "").split(delimiter).filter((file) => file !== "");
  if (listed.length > 0) {
    const found = await Promise.all(listed.map(exists));
    const files = listed.filter((_, i) => found[i] === true);
    if (files.length === 0)
      throw new KubeError("CONFIG", `KUBECONFIG names ${listed.join(delimiter)}: no such file`);
    return files;
  }
  const home = join(environment.HOME ?? "/", ".kube", "config");
  return (await exists(home)) ? [home] : [];
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function as(
  who: { readonly user: string; readonly groups?: readonly string[] },
  source: CredentialSource,
): CredentialSource {
  return {
    read: async (isRefused) => {
      const own = await source.read(isRefused);
      const groups = who.groups ?? [];
      return {
        ...own,
        headers: {
          ...own.headers,
          "Impersonate-User": who.user,
          ...(groups.length === 0 ? {} : { "Impersonate-Group": [...groups] }),
        },
      };
    },
  };
}
