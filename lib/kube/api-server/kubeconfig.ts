// Kubeconfig files: found, merged and turned into an endpoint. client-node parses the entries and
// runs exec plugins; of that package only the small files are loaded (3 ms) unless a context needs a
// proxy or an old auth provider, which cost its whole API (250 ms, 65 MB).
import { readFile } from "node:fs/promises";
import type { RequestOptions } from "node:https";
import { dirname, isAbsolute, join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";
import {
  type Cluster,
  type Context,
  newClusters,
  newContexts,
  newUsers,
  type User,
} from "@kubernetes/client-node/dist/config_types.js";
import { parse } from "yaml";
import { KubeError } from "../errors.ts";
import { isJsonObject, type JsonObject, textOf } from "../json.ts";
import {
  type Credentials,
  type CredentialSource,
  type Endpoint,
  RotatingFile,
} from "./credentials.ts";

/** What the client library keeps of a user, and the fields it overlooks. */
interface KubeUser extends User {
  tokenFile?: string;
}

interface FilePaths {
  caFile?: string;
  certFile?: string;
  keyFile?: string;
  tokenFile?: string;
}

export interface Kubeconfig {
  readonly files: readonly string[];
  readonly clusters: readonly Cluster[];
  readonly users: readonly KubeUser[];
  readonly contexts: readonly Context[];
  readonly currentContext: string;
}

/**
 * Files merge as kubectl merges them: of two entries with one name the first counts.
 * @throws {KubeError} `CONFIG`
 */
export async function readKubeconfig(files: readonly string[]): Promise<Kubeconfig> {
  const all = await Promise.all(files.map(readFileEntries));
  return {
    files,
    clusters: firstByName(all.flatMap((one) => one.clusters)),
    users: firstByName(all.flatMap((one) => one.users)),
    contexts: firstByName(all.flatMap((one) => one.contexts)),
    currentContext: all.find((one) => one.currentContext !== "")?.currentContext ?? "",
  };
}

/** @throws {KubeError} `CONFIG` naming what the context lacks */
export function endpointOf(config: Kubeconfig, contextName: string | undefined): Endpoint {
  const where = config.files.join(":");
  const name = contextName ?? config.currentContext;
  const context = config.contexts.find((c) => c.name === name);
  if (context === undefined)
    throw fault(
      where,
      name === ""
        ? "no current-context: name a context"
        : `no context ${JSON.stringify(name)}; there are: ${config.contexts.map((c) => c.name).join(", ")}`,
    );
  const cluster = config.clusters.find((c) => c.name === context.cluster);
  if (cluster === undefined)
    throw fault(where, `context ${name} names the cluster ${context.cluster}, which is missing`);
  const user = config.users.find((u) => u.name === context.user) ?? null;
  if (user === null && context.user)
    throw fault(where, `context ${name} names the user ${context.user}, which is missing`);
  if (!URL.canParse(cluster.server))
    throw fault(where, `cluster ${cluster.name}: ${JSON.stringify(cluster.server)} is no URL`);
  return {
    url: new URL(cluster.server),
    serverName: cluster.tlsServerName ?? null,
    isUnverified: cluster.skipTLSVerify,
    context: name,
    namespace: context.namespace ?? "default",
    credentials:
      cluster.proxyUrl || (user?.authProvider && user.authProvider.name !== "exec")
        ? wholeClient(cluster, user)
        : kubeconfigCredentials(cluster, user),
  };
}

async function readFileEntries(file: string): Promise<Kubeconfig> {
  let document: unknown;
  try {
    document = parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new KubeError("CONFIG", `Cannot read the kubeconfig ${file}`, { file, cause });
  }
  if (!isJsonObject(document)) throw fault(file, "expected a mapping");
  try {
    return {
      files: [file],
      clusters: newClusters(entries(document, "clusters")).map((c) => absolute(file, c)),
      users: newUsers(withoutTokenFiles(entries(document, "users"))).map((user) =>
        absolute(file, { ...user, ...tokenFileOf(document, user.name) }),
      ),
      contexts: newContexts(entries(document, "contexts")),
      currentContext: textOf(document["current-context"]),
    };
  } catch (error) {
    throw fault(file, error instanceof Error ? error.message : String(error));
  }
}

function entries(document: JsonObject, field: string): JsonObject[] {
  const value = document[field] ?? [];
  if (!Array.isArray(value)) throw new Error(`${field}: expected a list`);
  return value.map((entry) => (isJsonObject(entry) ? entry : {}));
}

/** The library would read the file once, and under another name than kubectl's. */
function withoutTokenFiles(users: readonly JsonObject[]): JsonObject[] {
  return users.map((entry) => {
    if (!isJsonObject(entry.user)) return entry;
    const { "token-file": _, ...user } = entry.user;
    return { ...entry, user };
  });
}

function tokenFileOf(document: JsonObject, name: string): { tokenFile?: string } {
  const entry = entries(document, "users").find((e) => e.name === name);
  const file = isJsonObject(entry?.user)
    ? (entry.user.tokenFile ?? entry.user["token-file"])
    : undefined;
  return typeof file === "string" ? { tokenFile: file } : {};
}

/** Paths in a kubeconfig are relative to its own directory. */
function absolute<T extends FilePaths>(file: string, entry: T): T {
  const result: T = { ...entry };
  for (const field of ["caFile", "certFile", "keyFile", "tokenFile"] as const) {
    const path = result[field];
    if (path && !isAbsolute(path)) result[field] = join(dirname(file), path);
  }
  return result;
}

function firstByName<T extends { readonly name: string }>(all: readonly T[]): T[] {
  const result = new Map<string, T>();
  for (const entry of all) if (!result.has(entry.name)) result.set(entry.name, entry);
  return [...result.values()];
}

function fault(file: string, why: string): KubeError {
  return new KubeError("CONFIG", `Cannot use the kubeconfig ${file}: ${why}`, { file });
}

type Content = (isRefused: boolean) => Promise<Buffer | null>;

function fileOrData(path: string | undefined, data: string | undefined, what: string): Content {
  if (path) {
    const file = new RotatingFile(path, what);
    return (isRefused) => file.read(isRefused);
  }
  const bytes = data ? Buffer.from(data, "base64") : null;
  return () => Promise.resolve(bytes);
}

function kubeconfigCredentials(cluster: Cluster, user: KubeUser | null): CredentialSource {
  const ca = fileOrData(cluster.caFile, cluster.caData, "cluster CA");
  const cert = fileOrData(user?.certFile, user?.certData, "client certificate");
  const key = fileOrData(user?.keyFile, user?.keyData, "client key");
  const token = fileOrData(user?.tokenFile, undefined, "token");
  const plugin = user?.exec || user?.authProvider ? execPlugin(cluster, user) : null;
  return {
    read: async (isRefused) => {
      const headers: Record<string, string> = {};
      const bearer = (await token(isRefused))?.toString("utf8").trim() ?? user?.token;
      if (bearer) headers.Authorization = `Bearer ${bearer}`;
      else if (user?.username)
        headers.Authorization = `Basic ${Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64")}`;
      if (user?.impersonateUser) headers["Impersonate-User"] = user.impersonateUser;
      const [caBytes, certBytes, keyBytes] = await Promise.all([
        ca(isRefused),
        cert(isRefused),
        key(isRefused),
      ]);
      const own: Credentials = { ca: caBytes, cert: certBytes, key: keyBytes, headers };
      if (plugin === null) return own;
      const given = await plugin(isRefused);
      return { ...own, ...given, headers: { ...given.headers, ...headers } };
    },
  };
}

/** @see Kubernetes, client-go credential plugins */
function execPlugin(
  cluster: Cluster,
  user: KubeUser,
): (
  isRefused: boolean,
) => Promise<Pick<Credentials, "headers"> & Partial<Pick<Credentials, "cert" | "key">>> {
  let auth: { applyAuthentication(user: User, options: object): Promise<void> } | null = null;
  const config: unknown = user.exec ?? user.authProvider?.config?.exec;
  const told = isJsonObject(config) ? config : {};
  // Plugins learn from KUBERNETES_EXEC_INFO which version to answer in and for which cluster.
  const info = JSON.stringify({
    apiVersion: told.apiVersion ?? "client.authentication.k8s.io/v1",
    kind: "ExecCredential",
    spec: {
      interactive: false,
      ...(told.provideClusterInfo === true
        ? {
            cluster: {
              server: cluster.server,
              "certificate-authority-data": cluster.caData,
              "insecure-skip-tls-verify": cluster.skipTLSVerify,
              "tls-server-name": cluster.tlsServerName,
            },
          }
        : {}),
    },
  });
  const env = [
    ...(Array.isArray(told.env) ? told.env : []),
    { name: "KUBERNETES_EXEC_INFO", value: info },
  ];
  const asked: User = { name: user.name, exec: { ...told, env } };
  return async (isRefused) => {
    const { ExecAuth } = await import("@kubernetes/client-node/dist/exec_auth.js");
    if (auth === null || isRefused) auth = new ExecAuth(); // forgets what the plugin said
    const options: { headers?: Record<string, string>; cert?: string; key?: string } = {};
    try {
      await auth.applyAuthentication(asked, options);
    } catch (cause) {
      throw new KubeError(
        "CONFIG",
        `The credential plugin ${textOf(told.command)} of user ${user.name} failed`,
        { cause },
      );
    }
    return {
      headers: options.headers ?? {},
      ...(options.cert === undefined ? {} : { cert: options.cert }),
      ...(options.key === undefined ? {} : { key: options.key }),
    };
  };
}

/** Proxies and the auth providers of old: everything client-node knows, agent included. */
function wholeClient(cluster: Cluster, user: KubeUser | null): CredentialSource {
  const token = fileOrData(user?.tokenFile, undefined, "token");
  let config: KubeConfig | null = null;
  return {
    read: async (isRefused) => {
      config ??= await loadWhole(cluster, user);
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      const headers: Record<string, string | string[]> = {};
      for (const [name, value] of Object.entries(options.headers ?? {}))
        if (value !== undefined) headers[name] = Array.isArray(value) ? value : String(value);
      const bearer = (await token(isRefused))?.toString("utf8").trim();
      if (bearer) headers.Authorization = `Bearer ${bearer}`;
      else if (options.auth)
        headers.Authorization = `Basic ${Buffer.from(options.auth).toString("base64")}`;
      if (typeof options.agent !== "object")
        throw new KubeError("CONFIG", `No agent for the cluster ${cluster.name}`);
      return { ca: null, cert: null, key: null, headers, agent: options.agent };
    },
  };
}

/** Programs that run in pods may be packed without it. */
async function loadWhole(cluster: Cluster, user: User | null): Promise<KubeConfig> {
  try {
    const { KubeConfig: Whole } = await import("@kubernetes/client-node/dist/config.js");
    const config = new Whole();
    config.loadFromClusterAndUser(cluster, user ?? { name: "anonymous" });
    return config;
  } catch (cause) {
    throw new KubeError(
      "CONFIG",
      `Cluster ${cluster.name} needs a proxy or an auth provider, which this program cannot use`,
      { cause },
    );
  }
}
