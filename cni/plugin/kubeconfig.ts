// The kubeconfig beside the agent's sockets, as our agent and Istio's write it: one cluster, one user
// with a token. Read again for every use, because tokens are replaced.
import { parsePlainYaml } from "#lib/kube/plain-yaml.ts";

export interface ApiAccess {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  readonly token: string;
  /** PEM; `null` with `isUnverified`, or for the system's authorities. */
  readonly ca: string | null;
  /** The cluster's certificate is not checked: `insecure-skip-tls-verify`. */
  readonly isUnverified: boolean;
  readonly serverName: string | null;
}

type Mapping = Readonly<Record<string, unknown>>;

/** Follows `current-context`; without one the only entries count. @throws {Error} naming the field */
export function parseKubeconfig(text: string): ApiAccess {
  const root = mapping(parse(text), "the kubeconfig");
  const contexts = entries(root, "contexts");
  const context = pick(contexts, root["current-context"], "context");
  const cluster = pick(entries(root, "clusters"), context["cluster"], "cluster");
  const user = pick(entries(root, "users"), context["user"], "user");
  const server = new URL(textAt(cluster, "server"));
  if (server.protocol !== "https:" && server.protocol !== "http:")
    throw new Error(`its server ${server.href} is neither http nor https`);
  const isTls = server.protocol === "https:";
  const ca = cluster["certificate-authority-data"];
  const name = cluster["tls-server-name"];
  return {
    host: server.hostname.replace(/^\[|\]$/g, ""),
    port: server.port === "" ? (isTls ? 443 : 80) : Number(server.port),
    isTls,
    token: textAt(user, "token").trim(),
    ca: typeof ca === "string" && ca !== "" ? Buffer.from(ca, "base64").toString() : null,
    isUnverified: cluster["insecure-skip-tls-verify"] === true,
    serverName: typeof name === "string" && name !== "" ? name : null,
  };
}

function parse(text: string): unknown {
  if (text.trimStart().startsWith("{")) return JSON.parse(text);
  const documents = parsePlainYaml(text);
  if (documents === null || documents.length !== 1) throw new Error("it is not plain YAML or JSON");
  return documents[0];
}

/** `clusters`, `contexts`, `users`: lists of `{name, <kind>: {…}}`. */
function entries(root: Mapping, key: string): ReadonlyMap<string, Mapping> {
  const list = root[key];
  if (!Array.isArray(list)) throw new Error(`it has no ${key}`);
  return new Map(
    list.map((value: unknown) => {
      const entry = mapping(value, `an entry of ${key}`);
      return [textAt(entry, "name"), mapping(entry[key.slice(0, -1)], `an entry of ${key}`)];
    }),
  );
}

function pick(from: ReadonlyMap<string, Mapping>, name: unknown, what: string): Mapping {
  const only = from.size === 1 && (name === undefined || name === "");
  const found = only ? from.values().next().value : from.get(String(name));
  if (found === undefined) throw new Error(`it has no ${what} ${JSON.stringify(name)}`);
  return found;
}

function mapping(value: unknown, what: string): Mapping {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`${what} is no mapping`);
  return value as Mapping;
}

function textAt(from: Mapping, key: string): string {
  const value = from[key];
  if (typeof value !== "string" || value === "") throw new Error(`it has no ${key}`);
  return value;
}
