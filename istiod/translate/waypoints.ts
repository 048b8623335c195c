// Waypoints as data: what a Gateway offers, and which of them an object's labels ask for.
// Source: istio pilot/pkg/serviceregistry/ambient/waypoints.go.
import { ApplicationTunnel_Protocol, type GatewayAddress } from "#lib/wire/gen/workload.gen.ts";
import type { LabelSelector } from "#lib/kube/objects.ts";
import { compileLabelSelector, type Labels } from "#lib/kube/labels.ts";
import { tryParseIp } from "#lib/net/ip.ts";
import type { Collection, Reads } from "./collection.ts";
import { gatewayAddress } from "./encode.ts";
import { type Gateway, type GatewayClass, HBONE_PORT, type Namespace } from "./objects.ts";

export interface InboundBinding {
  readonly protocol: ApplicationTunnel_Protocol;
  /** 0: not given. */
  readonly port: number;
}

export interface Waypoint {
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly address: GatewayAddress;
  /** `service`, `workload`, `all`; anything else serves nothing. */
  readonly trafficType: string;
  readonly allowed:
    | { readonly from: "All" | "Same" | "None" }
    | { readonly from: "Selector"; readonly selector: LabelSelector };
  readonly binding: InboundBinding | null;
}

export type WaypointErrorReason =
  | "WaypointIsNotReady"
  | "AttachmentDenied"
  | "UnsupportedTrafficType"
  | "CrossNamespaceWaypointForbidden"
  | "CanarySameAsPrimary"
  | "CanaryInvalidWeight";

export interface WaypointError {
  readonly reason: WaypointErrorReason;
  readonly message: string;
}

export type Resolution =
  | { readonly kind: "none" }
  | { readonly kind: "bound"; readonly waypoint: Waypoint }
  | { readonly kind: "error"; readonly error: WaypointError };

/** The label that makes a Pod an instance of the Gateway it names. */
export const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name";
const USE_WAYPOINT = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace";
const WAYPOINT_FOR = "istio.io/waypoint-for";
const MANAGED = "gateway.istio.io/managed";
const NEVER_BOUND = new Set(["istio.io-mesh-controller", "istio.io-eastwest-controller"]);
export const UNBOUND: Resolution = Object.freeze({ kind: "none" });

/** @returns `null` while the Gateway has no address: then it does not exist for anyone */
export function waypointOf(
  gateway: Gateway,
  gatewayClass: GatewayClass | undefined,
  network: string,
): Waypoint | null {
  const address = addressOf(gateway, network);
  if (address === null) return null;
  const binding = parseBinding(gateway.binding ?? gatewayClass?.binding ?? null);
  const { key, name, namespace, labels } = gateway;
  return {
    key,
    name,
    namespace,
    address,
    trafficType: labels[WAYPOINT_FOR] ?? gatewayClass?.labels[WAYPOINT_FOR] ?? "service",
    allowed: allowedNamespaces(gateway, binding),
    binding,
  };
}

function addressOf(gateway: Gateway, network: string): GatewayAddress | null {
  const hostname = gateway.addresses.find((a) => a.type === "Hostname")?.value;
  if (hostname !== undefined)
    return gatewayAddress({ namespace: gateway.namespace, hostname }, HBONE_PORT);
  for (const { type, value } of gateway.addresses) {
    const ip = type === "IPAddress" ? tryParseIp(value) : null;
    if (ip !== null) return gatewayAddress({ network, ip }, HBONE_PORT);
  }
  return null;
}

/** `PROTOCOL` or `PROTOCOL/PORT`; anything else is ignored. */
function parseBinding(text: string | null): InboundBinding | null {
  const m = /^(NONE|PROXY)(?:\/(\d{1,5}))?$/.exec(text ?? "");
  const port = Number(m?.[2] ?? 0);
  if (m === null || port > 65_535) return null;
  return { protocol: ApplicationTunnel_Protocol[m[1] === "PROXY" ? "PROXY" : "NONE"], port };
}

function allowedNamespaces(gateway: Gateway, binding: InboundBinding | null): Waypoint["allowed"] {
  const listener = gateway.listeners.find((l) => {
    if (binding !== null && binding.port !== 0) return l.port === binding.port;
    if (binding?.protocol === ApplicationTunnel_Protocol.PROXY)
      return l.protocol === "istio.io/PROXY";
    return l.protocol === "HBONE" && l.port === HBONE_PORT;
  });
  const namespaces = listener?.allowedRoutes?.namespaces;
  switch (namespaces?.from ?? "Same") {
    case "All":
      return { from: "All" };
    case "Selector":
      return { from: "Selector", selector: namespaces?.selector ?? { matchLabels: {} } };
    case "Same":
      return { from: "Same" };
    default:
      return { from: "None" };
  }
}

export interface WaypointTables {
  readonly namespaces: Collection<Namespace>;
  readonly waypoints: Collection<Waypoint>;
}

/** Who asks: the labels that count are its own, then its namespace's. */
export interface Requester {
  readonly namespace: string;
  readonly labels: Labels;
}

/** The Gateway this Pod or entry is an instance of; then it has no waypoint of its own. */
export function instanceOf(
  requester: Requester,
  tables: WaypointTables,
  reads: Reads,
): Waypoint | null {
  const name = requester.labels[GATEWAY_NAME];
  if (name === undefined || name === "") return null;
  return reads.key(tables.waypoints, `${requester.namespace}/${name}`) ?? null;
}

/** For Pods, entries and endpoints: an unsuitable type is only an error when they asked themselves. */
export function workloadWaypoint(
  requester: Requester,
  tables: WaypointTables,
  reads: Reads,
): Resolution {
  const asked = request(requester, tables, reads);
  if (asked === null) return UNBOUND;
  const found = attach(asked.key, requester.namespace, tables, reads);
  if (found.kind !== "bound" || serves(found.waypoint, "workload")) return found;
  return asked.isOwn ? unsupported(found.waypoint, "workloads") : UNBOUND;
}

export interface ServiceWaypoint {
  readonly primary: Resolution;
  readonly canary: { readonly waypoint: Waypoint; readonly weight: number } | null;
  readonly canaryError: WaypointError | null;
  readonly ingress: boolean;
  /** The object or its namespace says something about ingress. */
  readonly ingressLabelled: boolean;
}

const NO_SERVICE_WAYPOINT: ServiceWaypoint = Object.freeze({
  primary: UNBOUND,
  canary: null,
  canaryError: null,
  ingress: false,
  ingressLabelled: false,
});

/** For Services and ServiceEntries, canary and ingress included. */
export function serviceWaypoint(
  requester: Requester & { readonly annotations: Labels; readonly isNamespacePrivate: boolean },
  tables: WaypointTables,
  reads: Reads,
): ServiceWaypoint {
  if (NEVER_BOUND.has(requester.labels[MANAGED] ?? "")) return NO_SERVICE_WAYPOINT;
  const asked = request(requester, tables, reads);
  if (asked === null) return NO_SERVICE_WAYPOINT;
  const primary = resolveForService(asked.key, requester, tables, reads);
  if (primary.kind !== "bound") return { ...NO_SERVICE_WAYPOINT, primary };
  const namespace = reads.key(tables.namespaces, requester.namespace);
  const labels = [requester.labels, namespace?.labels ?? {}];
  const ingress = labels
    .map((l) => l["istio.io/ingress-use-waypoint"])
    .find((v) => v !== undefined);
  return {
    primary,
    ...canaryOf(requester, asked.isOwn, primary.waypoint, namespace, tables, reads),
    ingress: parseGoBool(ingress) === true,
    ingressLabelled: ingress !== undefined,
  };
}

function canaryOf(
  requester: Parameters<typeof serviceWaypoint>[0],
  ownPrimary: boolean,
  primary: Waypoint,
  namespace: Namespace | undefined,
  tables: WaypointTables,
  reads: Reads,
): Pick<ServiceWaypoint, "canary" | "canaryError"> {
  const levels = [requester, ...(ownPrimary || namespace === undefined ? [] : [namespace])];
  const level = levels.find((l) => (l.labels["istio.io/use-waypoint-canary"] ?? "") !== "");
  const name = level?.labels["istio.io/use-waypoint-canary"];
  if (level === undefined || name === undefined || name === "none")
    return { canary: null, canaryError: null };
  const failed = (error: WaypointError): Pick<ServiceWaypoint, "canary" | "canaryError"> => ({
    canary: null,
    canaryError: error,
  });
  const key = `${level.labels["istio.io/use-waypoint-canary-namespace"] ?? requester.namespace}/${name}`;
  if (key === primary.key)
    return failed({
      reason: "CanarySameAsPrimary",
      message: `The canary waypoint ${key} is the primary waypoint`,
    });
  const text = level.annotations["istio.io/use-waypoint-canary-weight"] ?? "0";
  if (!/^(?:100|[1-9]?\d)$/.test(text))
    return failed({
      reason: "CanaryInvalidWeight",
      message: `The canary weight ${JSON.stringify(text)} is no whole number from 0 to 100`,
    });
  const found = resolveForService(key, requester, tables, reads);
  if (found.kind === "error") return failed(found.error);
  if (found.kind === "none") return { canary: null, canaryError: null };
  return { canary: { waypoint: found.waypoint, weight: Number(text) }, canaryError: null };
}

function resolveForService(
  key: string,
  requester: Requester & { readonly isNamespacePrivate: boolean },
  tables: WaypointTables,
  reads: Reads,
): Resolution {
  const found = attach(key, requester.namespace, tables, reads);
  if (found.kind !== "bound") return found;
  if (!serves(found.waypoint, "service")) return unsupported(found.waypoint, "services");
  if (requester.isNamespacePrivate && found.waypoint.namespace !== requester.namespace)
    return failure(
      "CrossNamespaceWaypointForbidden",
      `Waypoint ${key} is in another namespace, and this entry is visible in its own only`,
    );
  return found;
}

/** Own label, else the namespace's; an own label that leads nowhere does not fall back. */
function request(
  requester: Requester,
  tables: WaypointTables,
  reads: Reads,
): { readonly key: string; readonly isOwn: boolean } | null {
  const own = wanted(requester.labels, requester.namespace);
  if (own !== null) return own === "none" ? null : { key: own, isOwn: true };
  const namespace = reads.key(tables.namespaces, requester.namespace);
  const inherited = namespace === undefined ? null : wanted(namespace.labels, requester.namespace);
  return inherited === null || inherited === "none" ? null : { key: inherited, isOwn: false };
}

/** @returns `null` when nothing is said at this level (an empty value says nothing) */
function wanted(labels: Labels, namespace: string): string | null {
  const name = labels[USE_WAYPOINT];
  if (name === undefined || name === "") return null;
  return name === "none" ? "none" : `${labels[USE_WAYPOINT_NAMESPACE] ?? namespace}/${name}`;
}

function attach(key: string, namespace: string, tables: WaypointTables, reads: Reads): Resolution {
  const waypoint = reads.key(tables.waypoints, key);
  if (waypoint === undefined)
    return failure("WaypointIsNotReady", `Waypoint ${key} does not exist or has no address yet`);
  if (isAllowed(waypoint, namespace, tables, reads)) return { kind: "bound", waypoint };
  return failure("AttachmentDenied", `Waypoint ${key} does not allow namespace ${namespace}`);
}

function isAllowed(
  { allowed, namespace: home }: Waypoint,
  namespace: string,
  tables: WaypointTables,
  reads: Reads,
): boolean {
  switch (allowed.from) {
    case "All":
      return true;
    case "Same":
      return namespace === home;
    case "None":
      return false;
    case "Selector": {
      const labels = reads.key(tables.namespaces, namespace)?.labels;
      try {
        return labels !== undefined && compileLabelSelector(allowed.selector)(labels);
      } catch {
        return false; // a selector nobody can evaluate admits nobody
      }
    }
    default:
      return allowed satisfies never;
  }
}

function serves(waypoint: Waypoint, what: "service" | "workload"): boolean {
  return waypoint.trafficType === what || waypoint.trafficType === "all";
}

function unsupported(waypoint: Waypoint, what: string): Resolution {
  return failure(
    "UnsupportedTrafficType",
    `Waypoint ${waypoint.key} is for ${JSON.stringify(waypoint.trafficType)} traffic, not for ${what}`,
  );
}

function failure(reason: WaypointErrorReason, message: string): Resolution {
  return { kind: "error", error: { reason, message } };
}

/** As Go's `strconv.ParseBool`; `null` for anything else. */
export function parseGoBool(text: string | null | undefined): boolean | null {
  if (/^(?:1|t|T|TRUE|true|True)$/.test(text ?? "")) return true;
  return /^(?:0|f|F|FALSE|false|False)$/.test(text ?? "") ? false : null;
}
