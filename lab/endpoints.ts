// Which EndpointSlices a Service has: pure, as Kubernetes' endpoint slice controller derives them.
import type { EndpointSlice, Pod, Service, ServicePort } from "#lib/kube/objects.ts";

export const MANAGED_BY = "endpointslice-controller.k8s.io";
type Family = "IPv4" | "IPv6";

/**
 * One slice for each address family of the Service, none for a Service without selector.
 * @param zoneOf topology zone of a node, by name
 */
export function slicesFor(
  service: Service,
  pods: readonly Pod[],
  zoneOf: (node: string) => string | undefined,
): EndpointSlice[] {
  const { spec, metadata } = service;
  const { selector } = spec ?? {};
  if (selector === undefined || Object.keys(selector).length === 0 || spec?.type === "ExternalName")
    return [];
  const selected = pods
    .filter((pod) => isEndpoint(pod, metadata.namespace, selector))
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const families = (spec?.ipFamilies ?? ["IPv4"]) as readonly Family[];
  return families.map(
    (family): EndpointSlice => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: `${metadata.name}-${family.toLowerCase()}`,
        namespace: metadata.namespace ?? "default",
        labels: {
          "kubernetes.io/service-name": metadata.name,
          "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
          ...(spec?.clusterIP === "None" ? { "service.kubernetes.io/headless": "" } : {}),
        },
        ownerReferences: [
          {
            apiVersion: "v1",
            kind: "Service",
            name: metadata.name,
            uid: metadata.uid ?? "",
            controller: true,
          },
        ],
      },
      addressType: family,
      ports: portsOf(spec?.ports ?? [], selected),
      endpoints: selected.flatMap((pod) => {
        const addresses = addressesOf(pod, family);
        return addresses.length === 0 ? [] : [endpointOf(pod, addresses, service, zoneOf)];
      }),
    }),
  );
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;
}

function isEndpoint(
  pod: Pod,
  namespace: string | undefined,
  selector: Readonly<Record<string, string>>,
): boolean {
  const { phase } = pod.status ?? {};
  return (
    pod.metadata.namespace === namespace &&
    phase !== "Succeeded" &&
    phase !== "Failed" &&
    (pod.status?.podIPs?.length ?? 0) > 0 &&
    Object.entries(selector).every(([key, value]) => pod.metadata.labels?.[key] === value)
  );
}

const addressesOf = (pod: Pod, family: Family): string[] =>
  (pod.status?.podIPs ?? [])
    .map((p) => p.ip)
    .filter((ip) => ip.includes(":") === (family === "IPv6"));

function endpointOf(
  pod: Pod,
  addresses: readonly string[],
  service: Service,
  zoneOf: (node: string) => string | undefined,
): NonNullable<EndpointSlice["endpoints"]>[number] {
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const serving = isReady(pod);
  const node = pod.spec?.nodeName;
  const zone = node === undefined ? undefined : zoneOf(node);
  const { name, namespace, uid } = pod.metadata;
  return {
    addresses,
    conditions: {
      ready: (serving && !terminating) || service.spec?.publishNotReadyAddresses === true,
      serving,
      terminating,
    },
    ...(pod.spec?.hostname !== undefined && pod.spec.subdomain === service.metadata.name
      ? { hostname: pod.spec.hostname }
      : {}),
    ...(node === undefined ? {} : { nodeName: node }),
    ...(zone === undefined ? {} : { zone }),
    targetRef: {
      kind: "Pod",
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
    },
  };
}

/** Target ports by number; a named one is looked up in the pods' containers, and left out when none has it. */
function portsOf(
  ports: readonly ServicePort[],
  pods: readonly Pod[],
): NonNullable<EndpointSlice["ports"]> {
  return ports.flatMap((port) => {
    const target = port.targetPort ?? port.port;
    const number = typeof target === "number" ? target : namedPort(target, pods);
    if (number === undefined) return [];
    return [
      {
        name: port.name ?? "",
        port: number,
        protocol: port.protocol ?? "TCP",
        ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }),
      },
    ];
  });
}

function namedPort(name: string, pods: readonly Pod[]): number | undefined {
  for (const pod of pods)
    for (const container of pod.spec?.containers ?? [])
      for (const port of container.ports ?? []) if (port.name === name) return port.containerPort;
  return undefined;
}
