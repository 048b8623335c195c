// Objects on arrival: parsed once into what the tables read, everything else let go, so that ten
// thousand Pods stay small and a change of anything unread is no change. Missing fields are filled as
// an API server fills them.
import { type Cidr, parseCidr } from "#lib/net/cidr.ts";
import { type Ip, tryParseIp } from "#lib/net/ip.ts";
import type { KubeObject } from "#lib/kube/cluster.ts";
import type { Labels } from "#lib/kube/labels.ts";
import type * as kube from "#lib/kube/objects.ts";
import { podReference, REDIRECTION } from "./objects.ts";
import type {
  AuthorizationPolicy,
  Endpoint,
  EndpointSlice,
  Gateway,
  GatewayClass,
  Identified,
  Locality,
  Namespace,
  Node,
  PeerAuthentication,
  Pod,
  Service,
  ServiceEntry,
  WorkloadEntry,
} from "./objects.ts";

const INBOUND_BINDING = "ambient.istio.io/waypoint-inbound-binding";
const REVISION = "istio.io/rev";
const SERVICE_NAME = "kubernetes.io/service-name";
const NONE: Labels = Object.freeze({});

export function namespace(o: kube.Namespace): Namespace {
  const { annotations } = o.metadata;
  return { ...identified(o), annotations: pick(annotations, (k) => k.includes("istio.io/")) };
}

export function node(o: kube.Node): Node {
  const labels = o.metadata.labels ?? NONE;
  const locality = {
    region: labels["topology.kubernetes.io/region"] ?? "",
    zone: labels["topology.kubernetes.io/zone"] ?? "",
    subzone: labels["topology.istio.io/subzone"] ?? "",
  };
  return { ...identified(o), labels: NONE, locality: localityOrNone(locality) };
}

export function pod(o: kube.Pod): Pod {
  const { metadata, spec, status } = o;
  const owner = metadata.ownerReferences?.find((ref) => ref.controller === true);
  const sidecars = spec?.initContainers?.filter((c) => c.restartPolicy === "Always") ?? [];
  return {
    ...identified(o),
    uid: metadata.uid ?? "",
    redirected: metadata.annotations?.[REDIRECTION] === "enabled",
    generateName: metadata.generateName ?? "",
    owner: owner === undefined ? null : { kind: owner.kind, name: owner.name },
    serviceAccount: spec?.serviceAccountName ?? "default",
    node: spec?.nodeName ?? "",
    hostNetwork: spec?.hostNetwork ?? false,
    ports: [...(spec?.containers ?? []), ...sidecars]
      .flatMap((c) => c.ports ?? [])
      .filter((p) => (p.protocol ?? "TCP") === "TCP" && (p.name ?? "") !== "")
      .map((p) => ({ name: p.name ?? "", port: p.containerPort })),
    ips: podIps(status),
    isReady:
      metadata.deletionTimestamp === undefined &&
      (status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false),
  };
}

function podIps(status: kube.Pod["status"]): readonly Ip[] | null {
  if (status?.phase === "Succeeded" || status?.phase === "Failed") return null;
  const listed = (status?.podIPs ?? []).map((entry) => entry.ip);
  const single = status?.podIP ?? "";
  const texts = listed.length > 0 ? listed : single === "" ? [] : [single];
  return texts.length === 0 ? null : allIps(texts);
}

/** Missing fields are filled as an API server fills them. */
export function service(o: kube.Service): Service {
  const { spec } = o;
  const listed = spec?.clusterIPs ?? [];
  const texts = listed.length > 0 ? listed : [spec?.clusterIP ?? ""];
  const ips = texts.map(tryParseIp).filter((ip) => ip !== null);
  const selector = spec?.selector ?? NONE;
  return {
    ...identified(o),
    annotations: pick(o.metadata.annotations, (k) => k.includes("istio.io/")),
    generation: o.metadata.generation ?? 0,
    isExternalName: spec?.type === "ExternalName",
    ips,
    selector,
    ports: (spec?.ports ?? []).map((p) => ({
      name: p.name ?? "",
      port: p.port,
      target: targetPort(p),
      protocol: p.protocol ?? "TCP",
      appProtocol: p.appProtocol ?? null,
    })),
    ipFamilies: spec?.ipFamilies ?? defaultFamilies(ips, texts, spec),
    isNodeLocal: spec?.internalTrafficPolicy === "Local",
    trafficDistribution: spec?.trafficDistribution ?? "",
    publishNotReady: spec?.publishNotReadyAddresses ?? false,
  };
}

function targetPort(p: kube.ServicePort): number | string {
  const { targetPort: target } = p;
  if (target === undefined || target === 0 || target === "") return p.port;
  return typeof target === "string" && /^\d+$/.test(target) ? Number(target) : target;
}

/** Headless Services without selector are dual-stack unless told otherwise (Kubernetes, IPv4/IPv6 dual-stack). */
function defaultFamilies(
  ips: readonly Ip[],
  texts: readonly string[],
  spec: kube.Service["spec"],
): readonly string[] {
  if (ips.length > 0) return ips.map((ip) => (ip.includes(":") ? "IPv6" : "IPv4"));
  if (!texts.includes("None")) return [];
  const isSelectorless = Object.keys(spec?.selector ?? NONE).length === 0;
  return isSelectorless && spec?.ipFamilyPolicy !== "SingleStack" ? ["IPv4", "IPv6"] : ["IPv4"];
}

export function endpointSlice(o: kube.EndpointSlice): EndpointSlice {
  const name = o.metadata.labels?.[SERVICE_NAME] ?? "";
  return {
    ...identified(o),
    labels: NONE,
    service: name === "" ? null : name,
    isFqdn: o.addressType === "FQDN",
    ports: (o.ports ?? [])
      .filter((p) => (p.protocol ?? "TCP") === "TCP" && p.port !== undefined)
      .map((p) => ({ name: p.name ?? "", port: p.port ?? 0 })),
    endpoints: (o.endpoints ?? []).map((e) => ({
      addresses: e.addresses,
      isReady: e.conditions?.ready ?? true,
      pod: e.targetRef?.kind === "Pod" ? podReference(e.targetRef) : null,
    })),
  };
}

export function workloadEntry(o: kube.WorkloadEntry): WorkloadEntry {
  const self = identified(o);
  return {
    ...self,
    labels: { ...o.spec?.labels, ...self.labels },
    annotations: pick(o.metadata.annotations, (k) => k.includes("istio.io/")),
    generation: o.metadata.generation ?? 0,
    endpoint: endpoint(o.spec ?? {}),
  };
}

export function serviceEntry(o: kube.ServiceEntry): ServiceEntry {
  const { spec, status } = o;
  return {
    ...identified(o),
    annotations: pick(o.metadata.annotations, (k) => k.includes("istio.io/")),
    generation: o.metadata.generation ?? 0,
    hosts: spec?.hosts ?? [],
    addresses: allCidrs(spec?.addresses ?? []),
    allocated: (status?.addresses ?? []).flatMap(({ value, host }) => {
      const ip = tryParseIp(value);
      return ip === null || host === undefined ? [] : [{ host, ip }];
    }),
    ports: (spec?.ports ?? []).map((p) => ({
      name: p.name ?? "",
      number: p.number,
      target: p.targetPort ?? p.number,
      protocol: p.protocol ?? "",
    })),
    resolution: spec?.resolution ?? "NONE",
    endpoints: (spec?.endpoints ?? []).map(endpoint),
    selector: spec?.workloadSelector === undefined ? null : (spec.workloadSelector.labels ?? NONE),
    subjectAltNames: [...(spec?.subjectAltNames ?? [])].sort(),
  };
}

function endpoint(spec: kube.WorkloadEntrySpec): Endpoint {
  const [region = "", zone = "", subzone = ""] = (spec.locality ?? "").split("/");
  return {
    address: spec.address ?? "",
    ip: tryParseIp(spec.address ?? ""),
    ports: spec.ports ?? {},
    labels: spec.labels ?? NONE,
    network: spec.network ?? "",
    locality: localityOrNone({ region, zone, subzone }),
    weight: spec.weight ?? 0,
    serviceAccount: spec.serviceAccount ?? "",
  };
}

export function authorizationPolicy(o: kube.AuthorizationPolicy): AuthorizationPolicy {
  const { spec } = o;
  const legacy = spec?.targetRef === undefined ? [] : [spec.targetRef];
  return {
    ...identified(o),
    labels: NONE,
    dryRun: o.metadata.annotations?.["istio.io/dry-run"] ?? null,
    generation: o.metadata.generation ?? 0,
    selector: nonEmpty(spec?.selector?.matchLabels),
    targets: (spec?.targetRefs?.length ?? 0) > 0 ? (spec?.targetRefs ?? []) : legacy,
    action: spec?.action ?? "ALLOW",
    rules: spec?.rules ?? [],
  };
}

export function peerAuthentication(o: kube.PeerAuthentication): PeerAuthentication {
  const { spec } = o;
  return {
    ...identified(o),
    labels: NONE,
    selector: nonEmpty(spec?.selector?.matchLabels),
    mode: spec?.mtls?.mode ?? "UNSET",
    ports: Object.entries(spec?.portLevelMtls ?? {})
      .filter(([, mtls]) => (mtls.mode ?? "UNSET") !== "UNSET")
      .map(([port, mtls]) => ({ port: Number(port), isStrict: mtls.mode === "STRICT" }))
      .sort((a, b) => a.port - b.port),
  };
}

export function gateway(o: kube.Gateway): Gateway {
  return {
    ...identified(o),
    className: o.spec?.gatewayClassName ?? "",
    binding: o.metadata.annotations?.[INBOUND_BINDING] ?? null,
    listeners: o.spec?.listeners ?? [],
    addresses: (o.status?.addresses ?? []).map((a) => ({
      type: a.type ?? "IPAddress",
      value: a.value,
    })),
  };
}

export function gatewayClass(o: kube.GatewayClass): GatewayClass {
  return {
    ...identified(o),
    binding: o.metadata.annotations?.[INBOUND_BINDING] ?? null,
    controller: o.spec?.controllerName ?? "",
  };
}

function identified(o: KubeObject): Identified {
  const { name, namespace: ns = "", labels, creationTimestamp } = o.metadata;
  return {
    key: ns === "" ? name : `${ns}/${name}`,
    name,
    namespace: ns,
    labels: labels ?? NONE,
    createdAt: creationTimestamp ?? "",
    revision: labels?.[REVISION] ?? "",
  };
}

function pick(labels: Labels | undefined, wanted: (key: string) => boolean): Labels {
  if (labels === undefined) return NONE;
  const entries = Object.entries(labels).filter(([key]) => wanted(key));
  return entries.length === 0 ? NONE : Object.fromEntries(entries);
}

function nonEmpty(labels: Labels | undefined): Labels | null {
  return labels === undefined || Object.keys(labels).length === 0 ? null : labels;
}

function localityOrNone(locality: Locality): Locality | null {
  const { region, zone, subzone } = locality;
  return region === "" && zone === "" && subzone === "" ? null : locality;
}

function allIps(texts: readonly string[]): readonly Ip[] | null {
  const ips = texts.map(tryParseIp);
  return ips.every((ip) => ip !== null) ? ips : null;
}

function allCidrs(texts: readonly string[]): readonly Cidr[] | null {
  try {
    return texts.map(parseCidr);
  } catch {
    return null;
  }
}
