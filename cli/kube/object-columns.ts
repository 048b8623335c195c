// kubectl's columns for the kinds an operator of the mesh looks at; NAME and AGE for all others.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import type {
  AuthorizationPolicy,
  EndpointSlice,
  Namespace,
  Node,
  PeerAuthentication,
  Pod,
  Service,
} from "#lib/kube/objects.ts";
import type { Column } from "../render/table.ts";
import { ageSince } from "../render/units.ts";
import { MODE_LABEL, REDIRECTION_ANNOTATION } from "./enrollment.ts";
import { containerStatuses } from "./pod-state.ts";

type Columns = readonly Column<KubeObject>[];

export function objectColumns(resource: Resource, withNamespace: boolean, now: number): Columns {
  return [
    ...(withNamespace && resource.namespaced
      ? [{ header: "NAMESPACE", value: (o: KubeObject) => o.metadata.namespace ?? "" }]
      : []),
    { header: "NAME", value: (o) => o.metadata.name },
    ...(BY_KIND[resource.kind] ?? []),
    { header: "AGE", value: (o) => ageSince(o.metadata.creationTimestamp, now) },
    ...(WIDE_BY_KIND[resource.kind] ?? []),
  ];
}

type Cell<T> = readonly [header: string, value: (object: T) => string];

function columnsOf<T extends KubeObject>(...columns: readonly Cell<T>[]): Columns {
  return columns.map(([header, value]) => ({ header, value: (o: KubeObject) => value(o as T) }));
}

function wideOf<T extends KubeObject>(...columns: readonly Cell<T>[]): Columns {
  return columnsOf(...columns).map((c) => ({ ...c, wide: true }));
}

const BY_KIND: Readonly<Record<string, Columns>> = {
  Pod: columnsOf<Pod>(
    ["READY", readyText],
    ["STATUS", statusText],
    ["MESH", (p) => p.metadata.annotations?.[REDIRECTION_ANNOTATION] ?? "-"],
  ),
  Node: columnsOf<Node>([
    "STATUS",
    (n) => (condition(n, "Ready") === "False" ? "NotReady" : "Ready"),
  ]),
  Namespace: columnsOf<Namespace>(
    ["STATUS", (n) => n.status?.phase ?? "Active"],
    ["MODE", (n) => n.metadata.labels?.[MODE_LABEL] ?? "-"],
  ),
  Service: columnsOf<Service>(
    ["TYPE", (s) => s.spec?.type ?? "ClusterIP"],
    ["CLUSTER-IP", (s) => s.spec?.clusterIPs?.join(",") ?? s.spec?.clusterIP ?? "<none>"],
    [
      "PORT(S)",
      (s) => (s.spec?.ports ?? []).map((p) => `${p.port}/${p.protocol ?? "TCP"}`).join(","),
    ],
  ),
  EndpointSlice: columnsOf<EndpointSlice>(
    ["ADDRESSTYPE", (e) => e.addressType],
    ["PORTS", (e) => (e.ports ?? []).map((p) => String(p.port ?? "*")).join(",")],
    ["ENDPOINTS", (e) => (e.endpoints ?? []).flatMap((x) => x.addresses).join(",")],
  ),
  AuthorizationPolicy: columnsOf<AuthorizationPolicy>(["ACTION", (p) => p.spec?.action ?? "ALLOW"]),
  PeerAuthentication: columnsOf<PeerAuthentication>(["MODE", (p) => p.spec?.mtls?.mode ?? "UNSET"]),
};

const WIDE_BY_KIND: Readonly<Record<string, Columns>> = {
  Pod: wideOf<Pod>(
    ["IP", (p) => p.status?.podIPs?.map((i) => i.ip).join(",") ?? p.status?.podIP ?? "<none>"],
    ["NODE", (p) => p.spec?.nodeName ?? "<none>"],
    ["SERVICEACCOUNT", (p) => p.spec?.serviceAccountName ?? "default"],
  ),
  Node: wideOf<Node>([
    "ADDRESSES",
    (n) => (n.status?.addresses ?? []).map((a) => a.address).join(","),
  ]),
  Service: wideOf<Service>([
    "SELECTOR",
    (s) =>
      Object.entries(s.spec?.selector ?? {})
        .map(([k, v]) => `${k}=${v}`)
        .join(",") || "<none>",
  ]),
};

/** Of its containers; a lab's pods have none to count. */
function readyText(pod: Pod): string {
  const own = containerStatuses(pod).filter((c) => isOrdinary(pod, c.name));
  if (own.length === 0) return condition(pod, "Ready") === "True" ? "1/1" : "0/1";
  return `${own.filter((c) => c.ready === true).length}/${own.length}`;
}

/** kubectl's: what stands in the way, rather than the phase. */
function statusText(pod: Pod): string {
  if (pod.metadata.deletionTimestamp !== undefined) return "Terminating";
  const state = containerStatuses(pod)
    .map(
      ({ state: s }) =>
        s?.waiting?.reason ?? (s?.terminated?.exitCode ? s.terminated.reason : null),
    )
    .find((reason) => reason != null);
  return state ?? pod.status?.reason ?? pod.status?.phase ?? "Unknown";
}

function isOrdinary(pod: Pod, container: string): boolean {
  return pod.spec?.initContainers?.some((c) => c.name === container) !== true;
}

function condition(object: Pod | Node, type: string): string | undefined {
  return object.status?.conditions?.find((c) => c.type === type)?.status;
}
