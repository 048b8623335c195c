// `ambit __complete <what> [<namespace>] [<kind>]`: names of the running lab, else of the cluster, one a line, for the
// completion scripts. Runs on every press of Tab: no command line library; of a lab only the file names of the
// manifest directory; and silence when anything is missing.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { CLUSTER_SCOPE } from "#lib/kube/manifest-path.ts";
import { defaultStateDir, readLabState, type LabState } from "../../lab/state.ts";

export const NAME_KINDS = [
  "namespaces",
  "nodes",
  "pods",
  "services",
  "waypoints",
  /** Service accounts. */
  "accounts",
  /** Of the kubeconfig. */
  "contexts",
  "objects",
  /** What a connection may go to. */
  "destinations",
  /** What `tunnels --from` and `--to` take. */
  "peers",
  /** Where `lab exec` can run. */
  "places",
  "enrollable",
] as const;
export type NameKind = (typeof NAME_KINDS)[number];

/** More than anybody reads. */
const MAX_NAMES = 500;

/** @param words  what, then the namespace of `-n` if there is one, then the kind of `objects` */
export async function completeNames(
  [what = "", namespace = "", kind = ""]: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<readonly string[]> {
  const of = NAME_KINDS.find((k) => k === what);
  if (of === undefined) return [];
  if (of === "contexts") return await (await import("./kube-names.ts")).contextNames(env);
  const state = readLabState(defaultStateDir(env));
  if (state === null) {
    // A lab that was named and is not there is not replaced by a cluster.
    if (env["AMBIT_LAB"]) return [];
    return await (await import("./kube-names.ts")).kubeNames(of, namespace, kind);
  }
  try {
    return namesOf(of, new Manifests(state), namespace, kind).slice(0, MAX_NAMES);
  } catch {
    return []; // a file that is no lab's
  }
}

function namesOf(of: NameKind, m: Manifests, namespace: string, kind: string): string[] {
  const nodes = m.state.nodes.map((n) => n.name);
  const namespaces = m.names("namespaces", CLUSTER_SCOPE);
  const inOne = (plural: string): string[] =>
    namespace === "" ? m.qualified(plural) : m.names(plural, namespace);
  const prefixed = (prefix: string, names: readonly string[]): string[] =>
    names.map((n) => `${prefix}/${n}`);
  switch (of) {
    case "namespaces":
      return namespaces;
    case "nodes":
      return nodes;
    case "pods":
      return inOne("pods");
    case "services":
      return inOne("services");
    case "waypoints":
      return m.names("gateways", namespace || "default");
    case "accounts":
      return m.names("serviceaccounts", namespace || "default");
    case "contexts":
      return [];
    case "objects":
      return [...m.names(kind, CLUSTER_SCOPE), ...m.names(kind, namespace || "default")];
    case "destinations":
      return [...prefixed("svc", inOne("services")), ...prefixed("pod", inOne("pods"))];
    case "peers":
      return [
        ...prefixed("ns", namespaces),
        ...prefixed("pod", inOne("pods")),
        ...prefixed("svc", inOne("services")),
      ];
    case "places":
      return [
        ...m.pairs("pods").map(([ns, name]) => `${ns}/${name}`),
        ...prefixed("node", nodes),
        "istiod",
      ];
    case "enrollable":
      return [
        ...prefixed("ns", namespaces),
        ...(namespace === "" ? [] : prefixed("pod", m.names("pods", namespace))),
      ];
    default:
      return of satisfies never;
  }
}

/** File names of the manifest directory, as DirectoryCluster gives them: `<plural>/<namespace>/<name>.yaml`. */
class Manifests {
  readonly state: LabState;

  constructor(state: LabState) {
    this.state = state;
  }

  names(plural: string, namespace: string): string[] {
    if (!/^[a-z]+$/.test(plural) || !/^[a-z0-9_-]+$/.test(namespace)) return [];
    return list(join(this.state.manifestDir, plural, namespace))
      .filter((file) => file.endsWith(".yaml") && !file.startsWith("."))
      .map((file) => file.slice(0, -".yaml".length));
  }

  pairs(plural: string): [string, string][] {
    return list(join(this.state.manifestDir, plural)).flatMap((namespace) =>
      this.names(plural, namespace).map((name): [string, string] => [namespace, name]),
    );
  }

  /** `name.namespace`. */
  qualified(plural: string): string[] {
    return this.pairs(plural).map(([namespace, name]) => `${name}.${namespace}`);
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir).sort();
  } catch {
    return [];
  }
}
