// `describe node`: the two programs of the mesh on it, and the pods they serve.
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace, type Node, type Pod } from "#lib/kube/objects.ts";
import { enrollmentOf, wantsMesh } from "../kube/enrollment.ts";
import type { MeshView } from "../kube/mesh-view.ts";
import { conditionOf, podProblem } from "../kube/pod-state.ts";
import type { ConfigDump } from "../source/config-dump.ts";
import type { Description, Line } from "./sections.ts";

export async function describeNode(
  cluster: Cluster,
  node: Node,
  view: MeshView,
  { dump, meshNamespace }: { readonly dump: ConfigDump | null; readonly meshNamespace: string },
): Promise<Description> {
  const { name } = node.metadata;
  const pods = await cluster.list(RESOURCES.pods, { fieldSelector: `spec.nodeName=${name}` });
  const part = (app: string): Pod | undefined =>
    pods.find((p) => p.metadata.namespace === meshNamespace && p.metadata.labels?.["app"] === app);
  const namespaceOf = (p: Pod): Namespace | null =>
    view.namespaces.get(p.metadata.namespace ?? "") ?? null;
  const states = pods.map((p) => enrollmentOf(p, wantsMesh(p, namespaceOf(p))).kind);
  const count = (kind: (typeof states)[number]): number => states.filter((s) => s === kind).length;
  const captured = pods.filter((_, i) => states[i] === "captured");
  const served = new Set(dump?.pods.map((p) => `${p.namespace}/${p.name}`));
  const unserved =
    dump === null
      ? []
      : captured.filter((p) => !served.has(`${p.metadata.namespace}/${p.metadata.name}`));
  const connections = dump?.pods.reduce((n, p) => n + p.connections.length, 0) ?? null;
  const ready = conditionOf(node.status?.conditions, "Ready");
  const lines: Line[] = [
    {
      label: "Ready",
      text: `${ready?.status ?? "Unknown"}${ready?.status === "True" ? "" : ` ${ready?.message ?? ""}`}`,
    },
    partLine("CNI agent", part("istio-cni-node")),
    partLine("ztunnel", part("ztunnel"), dump?.version),
    {
      label: "Pods",
      text: `${pods.length}: ${count("captured")} captured, ${count("pending")} pending, ${count("outside")} outside`,
      notes: [
        ...(count("pending") > 0 ? ["pods wait to be captured (C30)"] : []),
        ...unserved.map(
          (p) =>
            `${p.metadata.namespace}/${p.metadata.name} is marked captured, and its ztunnel does not know it`,
        ),
      ],
    },
    ...(dump === null
      ? []
      : [
          {
            label: "Identities",
            text: `${dump.identities.length}, ${dump.identities.filter((i) => i.state === "Available").length} with a certificate`,
          },
          { label: "Connections", text: String(connections) },
        ]),
  ];
  return {
    name: `node/${name}`,
    title: `Node ${name}   ${(node.status?.addresses ?? [])
      .filter((a) => a.type === "InternalIP")
      .map((a) => a.address)
      .join(",")}`,
    lines,
    next: [`ambit ztunnel-config all --node ${name}`, `ambit tunnels --node ${name}`],
    document: {
      kind: "NodeDescription",
      name,
      ready: ready?.status === "True",
      cniAgent: partDocument(part("istio-cni-node")),
      ztunnel: partDocument(part("ztunnel")),
      pods: {
        all: pods.length,
        captured: count("captured"),
        pending: count("pending"),
        outside: count("outside"),
      },
      connections,
      notes: lines.flatMap((l) => l.notes ?? []),
    },
  };
}

function partLine(label: string, pod: Pod | undefined, version?: string): Line {
  if (pod === undefined)
    return { label, text: "none", notes: ["pods of this node cannot be served"] };
  const problem = podProblem(pod);
  const state =
    problem === null
      ? "ready"
      : `${problem.reason}${problem.message === "" ? "" : `: ${problem.message}`}`;
  return {
    label,
    text: `${pod.metadata.name}   ${state}${version === undefined || version === "" ? "" : `   ${version}`}`,
  };
}

function partDocument(pod: Pod | undefined): unknown {
  return pod === undefined ? null : { pod: pod.metadata.name, problem: podProblem(pod) };
}
