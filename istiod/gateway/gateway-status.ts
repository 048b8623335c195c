// What a Gateway's status says: pure, from the Gateway and what is seen of its Services.
// Source: istio pilot/pkg/config/kube/gateway/conditions.go.
import { tryParseIp } from "#lib/net/ip.ts";
import type { Condition, EndpointSlice, Gateway, Service } from "#lib/kube/objects.ts";
import { isDeployed } from "./classes.ts";
import { ADDRESS_TYPE } from "./keys.ts";
import { type ListenerConditions, listenerConditions, validListeners } from "./listener-status.ts";

/** A Service through which the Gateway is reached. */
export interface ObservedService {
  readonly hostname: string;
  /** `null`: does not exist. */
  readonly service: Service | null;
  readonly slices: readonly EndpointSlice[];
}

export interface Observation {
  readonly services: readonly ObservedService[];
  /** Why nothing can be made for the Gateway; `null`: it can. */
  readonly problem: string | null;
}

export interface GatewayAddress {
  readonly type: "IPAddress" | "Hostname";
  readonly value: string;
}

/** Conditions without times. */
export interface GatewayStatus {
  readonly conditions: readonly Condition[];
  readonly listeners: readonly ListenerConditions[];
  /** `null`: leave what is there. An address that was published once stays: it says "use this waypoint". */
  readonly addresses: readonly GatewayAddress[] | null;
}

/** The API's own limit. */
const MAX_ADDRESSES = 16;

export function gatewayStatus(gateway: Gateway, observed: Observation): GatewayStatus {
  const { generation } = gateway.metadata;
  const say = (
    type: string,
    status: Condition["status"],
    reason: string,
    message: string,
  ): Condition => ({
    type,
    status,
    reason,
    message,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
  });
  const reach = reachOf(gateway, observed);
  const accepted = acceptedOf(gateway, observed);
  return {
    conditions: [
      say("Accepted", accepted.isTrue ? "True" : "False", accepted.reason, accepted.message),
      say("Programmed", reach.isUsable ? "True" : "False", reach.reason, reach.message),
      say("ResolvedRefs", "True", "ResolvedRefs", "All references resolved"),
    ],
    listeners: listenerConditions(gateway, reach.readyPorts),
    addresses: reach.isUsable ? reach.addresses : null,
  };
}

interface Verdict {
  readonly isTrue: boolean;
  readonly reason: string;
  readonly message: string;
}

function acceptedOf(gateway: Gateway, { problem }: Observation): Verdict {
  if (problem !== null) return { isTrue: false, reason: "InvalidParameters", message: problem };
  const unsupported = isDeployed(gateway)
    ? []
    : (gateway.spec?.addresses ?? []).filter((a) => (a.type ?? "IPAddress") !== "Hostname");
  if (unsupported.length > 0) {
    const values = unsupported.map((a) => a.value ?? "").join(", ");
    const message = `Only addresses of type Hostname are supported, ignoring ${values}`;
    return { isTrue: false, reason: "UnsupportedAddress", message };
  }
  const listeners = gateway.spec?.listeners ?? [];
  const valid = validListeners(listeners);
  if (valid.length < listeners.length) {
    const names = listeners.filter((l) => !valid.includes(l)).map((l) => l.name);
    const message = `Listeners that are not valid: ${names.join(", ")}`;
    return { isTrue: true, reason: "ListenersNotValid", message };
  }
  return { isTrue: true, reason: "Accepted", message: "Resource accepted" };
}

interface Reach {
  readonly isUsable: boolean;
  readonly reason: string;
  readonly message: string;
  readonly addresses: readonly GatewayAddress[];
  /** Listener ports that somebody answers at. */
  readonly readyPorts: ReadonlySet<number>;
}

function reachOf(gateway: Gateway, { services, problem }: Observation): Reach {
  const ports = [...new Set(validListeners(gateway.spec?.listeners ?? []).map((l) => l.port))];
  const seen = services.flatMap((s) =>
    ports.map((port) => ({ ...s, port, fault: faultOf(s, port) })),
  );
  const readyPorts = new Set(seen.filter((s) => s.fault === null).map((s) => s.port));
  const no = (reason: string, message: string): Reach => ({
    isUsable: false,
    reason,
    message,
    addresses: [],
    readyPorts,
  });
  if (problem !== null) return no("Invalid", problem);
  if (ports.length === 0) return no("Invalid", "No listener is valid");
  if (services.length === 0) return no("AddressNotUsable", "No usable address is given");
  const faults = seen.flatMap(({ fault }) => (fault === null ? [] : [fault]));
  if (faults.length > 0) {
    const ready = seen.filter((s) => s.fault === null).map((s) => `${s.hostname}:${s.port}`);
    const failed = [...new Set(faults.map((f) => f.message))].join("; ");
    const message =
      ready.length === 0
        ? `Failed to assign to any requested addresses: ${failed}`
        : `Assigned to service(s) ${ready.join(", ")}, but failed to assign to all requested addresses: ${failed}`;
    const isTransient = faults.every((f) => f.isTransient);
    return no(isTransient ? "AddressNotAssigned" : "AddressNotUsable", message);
  }
  const assigned = seen.map((s) => `${s.hostname}:${s.port}`).join(", ");
  const waiting = services.filter(awaitsLoadBalancer).map((s) => s.hostname);
  return {
    isUsable: true,
    reason: "Programmed",
    message: `Resource programmed, assigned to service(s) ${assigned}${
      waiting.length === 0 ? "" : `; no load balancer address yet for ${waiting.join(", ")}`
    }`,
    addresses: addressesOf(gateway, services),
    readyPorts,
  };
}

interface Fault {
  /** It may pass by itself: endpoints come and go. */
  readonly isTransient: boolean;
  readonly message: string;
}

function faultOf({ hostname, service, slices }: ObservedService, port: number): Fault | null {
  if (service === null)
    return { isTransient: false, message: `service ${JSON.stringify(hostname)} does not exist` };
  const found = service.spec?.ports?.find(
    (p) => p.port === port && (p.protocol ?? "TCP") === "TCP",
  );
  if (found === undefined)
    return {
      isTransient: false,
      message: `port ${port} not found for service ${JSON.stringify(hostname)}`,
    };
  const hasEndpoint = slices.some(
    (slice) =>
      (slice.ports ?? []).some((p) => (p.name ?? "") === (found.name ?? "")) &&
      (slice.endpoints ?? []).some((e) => e.conditions?.ready !== false),
  );
  if (hasEndpoint) return null;
  return {
    isTransient: true,
    message: `no ready endpoint for service ${JSON.stringify(`${hostname}:${port}`)}`,
  };
}

function awaitsLoadBalancer({ service }: ObservedService): boolean {
  return service?.spec?.type === "LoadBalancer" && external([{ service }]).length === 0;
}

function addressesOf(gateway: Gateway, services: readonly ObservedService[]): GatewayAddress[] {
  const outside = external(services);
  if (outside.length > 0) return outside.slice(0, MAX_ADDRESSES);
  const wanted = gateway.metadata.annotations?.[ADDRESS_TYPE];
  const inside: GatewayAddress[] = [
    ...services.flatMap(({ service }) => clusterIps(service)).map(ipAddress),
    ...services.map(({ hostname }): GatewayAddress => ({ type: "Hostname", value: hostname })),
  ];
  const isOne = wanted === "Hostname" || wanted === "IPAddress";
  return inside.filter((a) => !isOne || a.type === wanted).slice(0, MAX_ADDRESSES);
}

function external(services: readonly Pick<ObservedService, "service">[]): GatewayAddress[] {
  return services
    .flatMap(({ service }) => service?.status?.loadBalancer?.ingress ?? [])
    .flatMap(({ ip, hostname }): GatewayAddress[] => {
      if (ip !== undefined && ip !== "") return [ipAddress(ip)];
      return hostname === undefined ? [] : [{ type: "Hostname", value: hostname }];
    });
}

function clusterIps(service: Service | null): readonly string[] {
  const { clusterIPs, clusterIP } = service?.spec ?? {};
  const ips = clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP]);
  return ips.filter((ip) => tryParseIp(ip) !== null); // headless ones have "None"
}

function ipAddress(value: string): GatewayAddress {
  return { type: "IPAddress", value };
}
