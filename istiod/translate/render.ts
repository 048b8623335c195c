// Encoded resources as JSON a person can read (golden and conformance tests): the messages' field
// names, enums by name, addresses as text, default values left out.
import { ipFromBytes } from "#lib/net/ip.ts";
import { Action, Authorization, Scope } from "#lib/wire/gen/authorization.gen.ts";
import {
  Address,
  AppProtocol,
  ApplicationTunnel_Protocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  Service_Visibility,
  TunnelProtocol,
  WorkloadStatus,
  WorkloadType,
} from "#lib/wire/gen/workload.gen.ts";

export type Rendered =
  | string
  | number
  | boolean
  | readonly Rendered[]
  | { readonly [key: string]: Rendered };

/** Enum fields by name; no two messages use one name for different enums. */
const ENUMS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  tunnelProtocol: TunnelProtocol,
  workloadType: WorkloadType,
  status: WorkloadStatus,
  networkMode: NetworkMode,
  ipFamilies: IPFamilies,
  appProtocol: AppProtocol,
  visibility: Service_Visibility,
  routingPreference: LoadBalancing_Scope,
  mode: LoadBalancing_Mode,
  healthPolicy: LoadBalancing_HealthPolicy,
  protocol: ApplicationTunnel_Protocol,
  scope: Scope,
  action: Action,
};
/** The names ztunnel's copy of the API has, which its users know. */
const POLICY_NAMES: Readonly<Record<string, string>> = { groups: "rules", rules: "clauses" };
const NO_NAMES: Readonly<Record<string, string>> = {};

/** `{ workload: … }` or `{ service: … }`. */
export function renderAddress(bytes: Uint8Array): Rendered {
  return renderMessage(Address.decode(bytes), NO_NAMES);
}

export function renderAuthorization(bytes: Uint8Array): Rendered {
  return renderMessage(Authorization.decode(bytes), POLICY_NAMES);
}

function renderMessage(message: object, names: Readonly<Record<string, string>>): Rendered {
  const result: Record<string, Rendered> = {};
  for (const [field, value] of Object.entries(message) as [string, unknown][]) {
    if (isOneof(value)) result[value.$case] = renderValue(value.$case, value.value, names);
    else if (!isDefault(value)) result[names[field] ?? field] = renderValue(field, value, names);
  }
  return result;
}

function renderValue(
  field: string,
  value: unknown,
  names: Readonly<Record<string, string>>,
): Rendered {
  if (value instanceof Uint8Array) return ipFromBytes(value);
  if (Array.isArray(value)) return value.map((entry) => renderValue(field, entry, names));
  if (value instanceof Map)
    return Object.fromEntries(
      [...value].map(([key, entry]) => [String(key), renderValue("", entry, names)]),
    );
  if (typeof value === "number") return nameOf(field, value) ?? value;
  if (typeof value === "object" && value !== null) return renderMessage(value, names);
  return typeof value === "boolean" ? value : String(value);
}

function nameOf(field: string, value: number): string | undefined {
  const names = Object.hasOwn(ENUMS, field) ? ENUMS[field] : undefined;
  return names === undefined ? undefined : Object.keys(names).find((name) => names[name] === value);
}

function isDefault(value: unknown): boolean {
  return (
    value === undefined ||
    value === "" ||
    value === 0 ||
    value === false ||
    (Array.isArray(value) && value.length === 0) ||
    (value instanceof Map && value.size === 0) ||
    (value instanceof Uint8Array && value.length === 0)
  );
}

function isOneof(value: unknown): value is { readonly $case: string; readonly value: unknown } {
  return typeof value === "object" && value !== null && "$case" in value;
}
