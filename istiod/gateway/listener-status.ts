// What the status says of each listener of a waypoint: one of HBONE at 15008 is of use, no other.
import { PORT } from "#lib/net/ports.ts";
import type { Condition, Gateway, GatewayListener, RouteGroupKind } from "#lib/kube/objects.ts";

export interface ListenerConditions {
  readonly name: string;
  /** Routes of a waypoint belong to Services, none to a listener. */
  readonly supportedKinds: readonly RouteGroupKind[];
  readonly attachedRoutes: number;
  readonly conditions: readonly Condition[];
}

const HBONE = "HBONE";

/** Of several that are alike in port and protocol the first one counts. */
export function validListeners(listeners: readonly GatewayListener[]): readonly GatewayListener[] {
  return listeners.filter(isHbone).slice(0, 1);
}

function isHbone({ protocol, port }: GatewayListener): boolean {
  return protocol === HBONE && port === PORT.hbone;
}

/** @param readyPorts those with a ready endpoint */
export function listenerConditions(
  gateway: Gateway,
  readyPorts: ReadonlySet<number>,
): readonly ListenerConditions[] {
  const listeners = gateway.spec?.listeners ?? [];
  const valid = validListeners(listeners);
  const { generation } = gateway.metadata;
  return listeners.map((listener) => ({
    name: listener.name,
    supportedKinds: [],
    attachedRoutes: 0,
    conditions: conditionsOf(listener, valid.includes(listener), readyPorts).map((c) => ({
      ...c,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
    })),
  }));
}

function conditionsOf(
  listener: GatewayListener,
  isValid: boolean,
  readyPorts: ReadonlySet<number>,
): readonly Condition[] {
  const { protocol, port, allowedRoutes } = listener;
  const accepted = isValid
    ? yes("Accepted", "Accepted")
    : isHbone(listener)
      ? no("Accepted", "HostnameConflict", "Another listener has this port and protocol")
      : no(
          "Accepted",
          "UnsupportedProtocol",
          `Unsupported: a waypoint listens at port ${PORT.hbone} with protocol ${HBONE}, not at ${port} with ${protocol}`,
        );
  const conflicted =
    isValid || !isHbone(listener)
      ? no("Conflicted", "NoConflicts", "No errors found")
      : yes("Conflicted", "HostnameConflict", "Another listener has this port and protocol");
  const kinds = (allowedRoutes?.kinds ?? []).map((k) => k.kind);
  const resolved =
    kinds.length === 0
      ? yes("ResolvedRefs", "ResolvedRefs")
      : no(
          "ResolvedRefs",
          "InvalidRouteKinds",
          `No routes attach to a waypoint, but kinds are allowed: ${kinds.join(", ")}; routes name the Service`,
        );
  return [accepted, conflicted, programmed(isValid, readyPorts.has(port)), resolved];
}

function programmed(isValid: boolean, isReady: boolean): Condition {
  if (!isValid) return no("Programmed", "Invalid", "The listener is not valid");
  if (isReady) return yes("Programmed", "Programmed");
  return no("Programmed", "Pending", "No ready endpoint yet");
}

function yes(type: string, reason: string, message = "No errors found"): Condition {
  return { type, status: "True", reason, message };
}

function no(type: string, reason: string, message: string): Condition {
  return { type, status: "False", reason, message };
}
