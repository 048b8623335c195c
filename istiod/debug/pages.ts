// What the pages of port 15014 show, under Istio's paths.
import { ipFromBytes } from "#lib/net/ip.ts";
import { Authorization } from "#lib/wire/gen/authorization.gen.ts";
import { Policy } from "#lib/wire/gen/waypoint.gen.ts";
import { Address } from "#lib/wire/gen/workload.gen.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, WAYPOINT_POLICY_TYPE } from "#lib/xds/type-urls.ts";
import { dumpConfig, type Config } from "../config.ts";
import type { Metrics } from "../metrics.ts";
import type { ConnectionStatus } from "../push/connection.ts";
import type { MeshTables } from "../translate/mesh.ts";
import type { DebugPages, DebugReply } from "./server.ts";

export interface PageSources {
  /** As in force: the mesh configuration changes while istiod runs. */
  readonly config: () => Config;
  readonly version: string;
  readonly tables: MeshTables;
  readonly metrics: Metrics;
  readonly connections: () => readonly ConnectionStatus[];
  readonly isReady: () => boolean;
  /** `null` when all is well with the CA, else what is not. */
  readonly caStatus: () => Readonly<Record<string, unknown>>;
}

export function debugPages(sources: PageSources): DebugPages {
  return {
    open: {
      "/ready": () =>
        sources.isReady() ? { body: "ready\n" } : { status: 503, body: "not ready\n" },
      "/version": () => json({ component: "istiod", version: sources.version }),
      "/metrics": async () => ({
        type: sources.metrics.registry.contentType,
        body: await sources.metrics.registry.metrics(),
      }),
    },
    local: {
      "/debug/ambientz": () => json(ambient(sources.tables)),
      "/debug/adsz": () => {
        const clients = sources.connections();
        return json({ totalClients: clients.length, clients });
      },
      "/debug/syncz": () => json(sources.connections().map(syncStatus)),
      "/debug/configz": () =>
        json({ config: dumpConfig(sources.config()), ca: sources.caStatus() }),
    },
  };
}

/** The tables as sent, addresses as text. Decoding happens here only: the pusher holds bytes. */
function ambient(tables: MeshTables): Record<string, unknown> {
  const workloads: unknown[] = [];
  const services: unknown[] = [];
  for (const { bytes, version } of tables.addresses().values()) {
    const { type } = Address.decode(bytes);
    if (type?.$case === "workload") workloads.push({ version, ...type.value });
    else if (type?.$case === "service") services.push({ version, ...type.value });
  }
  const policies = [...tables.authorizations().values()].map(({ name, version, bytes }) => ({
    key: name,
    version,
    ...Authorization.decode(bytes),
  }));
  const waypointPolicies = [...tables.waypointPolicies().values()].map(
    ({ name, version, bytes }) => ({ key: name, version, ...Policy.decode(bytes) }),
  );
  return { workloads, services, policies, waypointPolicies };
}

function syncStatus(client: ConnectionStatus): Record<string, unknown> {
  const status = (typeUrl: string): string => {
    const s = client.subscriptions.find((candidate) => candidate.typeUrl === typeUrl);
    if (s === undefined) return "IGNORED";
    if (s.sentNonce === "") return "NOT_SENT";
    return s.sentNonce === s.ackedNonce ? "SYNCED" : "STALE";
  };
  return {
    proxy: client.node,
    proxy_type: client.type,
    last_ack: client.lastAck,
    address: status(ADDRESS_TYPE),
    authorization: status(client.type === "waypoint" ? WAYPOINT_POLICY_TYPE : AUTHORIZATION_TYPE),
  };
}

function json(value: unknown): DebugReply {
  return {
    type: "application/json",
    body: `${JSON.stringify(value, plain, 2)}\n`,
  };
}

/** Maps become objects; 4 or 16 bytes are an address, other bytes base64. */
function plain(_key: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value);
  const bytes = bytesOf(value);
  if (bytes === null) return value;
  return bytes.length === 4 || bytes.length === 16
    ? ipFromBytes(bytes)
    : Buffer.from(bytes).toString("base64");
}

/** A Buffer reaches a replacer already turned into `{type, data}` by its own `toJSON`. */
function bytesOf(value: unknown): Uint8Array | null {
  if (value instanceof Uint8Array) return value;
  if (typeof value !== "object" || value === null || !("data" in value) || !("type" in value))
    return null;
  return value.type === "Buffer" && Array.isArray(value.data)
    ? Uint8Array.from(value.data as number[])
    : null;
}
