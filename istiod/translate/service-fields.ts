// Two fields of a Service that follow tables of their own: application protocol and load balancing.
// Source: istio pkg/config/kube/conversion.go, pilot/pkg/serviceregistry/ambient/services.go.
import {
  AppProtocol,
  LoadBalancing_HealthPolicy as Health,
  type LoadBalancing,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
} from "#lib/wire/gen/workload.gen.ts";
import type { Service, ServicePort } from "./objects.ts";

const BY_WORD: Readonly<Record<string, AppProtocol>> = {
  http: AppProtocol.HTTP11,
  http2: AppProtocol.HTTP2,
  grpc: AppProtocol.GRPC,
  https: AppProtocol.TLS,
  tls: AppProtocol.TLS,
  tcp: AppProtocol.TCP,
};
const BY_KUBERNETES_NAME: Readonly<Record<string, AppProtocol>> = {
  "kubernetes.io/h2c": AppProtocol.HTTP2,
  "kubernetes.io/ws": AppProtocol.HTTP11,
  "kubernetes.io/wss": AppProtocol.TLS,
};
/** SMTP, DNS, MySQL, MongoDB: the server may speak first, so an unnamed port is not sniffed. */
const SERVER_FIRST = new Set([25, 53, 3306, 27_017]);

export function servicePortProtocol(port: ServicePort): AppProtocol {
  if (port.protocol === "UDP") return AppProtocol.UNKNOWN;
  const text = port.appProtocol ?? port.name;
  const known = BY_KUBERNETES_NAME[text];
  if (known !== undefined) return known;
  const word = text.toLowerCase();
  const named = word.startsWith("grpc-web") ? undefined : own(BY_WORD, word.split("-", 1)[0] ?? "");
  if (named !== undefined) return named;
  return SERVER_FIRST.has(port.port) && !word.startsWith("grpc-web")
    ? AppProtocol.TCP
    : AppProtocol.UNKNOWN;
}

/** The whole value counts: no prefixes, no well-known ports. */
export function entryPortProtocol(protocol: string): AppProtocol {
  return own(BY_WORD, protocol.toLowerCase()) ?? AppProtocol.UNKNOWN;
}

const DISTRIBUTION = "networking.istio.io/traffic-distribution";
type Distribution = "zone" | "node" | "none";
const BY_DISTRIBUTION: Readonly<Record<string, Distribution>> = {
  preferclose: "zone",
  prefersamezone: "zone",
  prefersamenode: "node",
};
const BY_SPEC: Readonly<Record<string, Distribution>> = {
  PreferClose: "zone",
  PreferSameZone: "zone",
  PreferSameNode: "node",
};

type Annotated = { readonly annotations: Readonly<Record<string, string>> } | undefined;

/** Always a new value: one preset shared by two services would leak one's health policy to the other. */
export function serviceLoadBalancing(
  service: Service,
  namespace: Annotated,
): LoadBalancing | undefined {
  const base = service.isNodeLocal
    ? { routingPreference: [Scope.NODE], mode: Mode.STRICT, healthPolicy: Health.ONLY_HEALTHY }
    : preferring(own(BY_SPEC, service.trafficDistribution) ?? annotated(service, namespace));
  if (!service.publishNotReady) return base;
  const unspecified = { routingPreference: [], mode: Mode.UNSPECIFIED_MODE };
  return { ...(base ?? unspecified), healthPolicy: Health.ALLOW_ALL };
}

export function entryLoadBalancing(
  entry: { readonly resolution: string } & NonNullable<Annotated>,
  namespace: Annotated,
): LoadBalancing | undefined {
  if (entry.resolution === "NONE")
    return { routingPreference: [], mode: Mode.PASSTHROUGH, healthPolicy: Health.ALLOW_ALL };
  return preferring(annotated(entry, namespace));
}

function annotated(object: Annotated, namespace: Annotated): Distribution {
  const value = object?.annotations[DISTRIBUTION] ?? namespace?.annotations[DISTRIBUTION];
  return value === undefined ? "none" : (own(BY_DISTRIBUTION, value.toLowerCase()) ?? "none");
}

function preferring(distribution: Distribution): LoadBalancing | undefined {
  if (distribution === "none") return undefined;
  const zone = [Scope.NETWORK, Scope.REGION, Scope.ZONE];
  return {
    routingPreference: distribution === "node" ? [...zone, Scope.SUBZONE, Scope.NODE] : zone,
    mode: Mode.FAILOVER,
    healthPolicy: Health.ONLY_HEALTHY,
  };
}

function own<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
