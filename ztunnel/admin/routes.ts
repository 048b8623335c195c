// The paths of the admin, metrics and readiness ports, put together from what answers them.
import { eventsRoute, tunnelList } from "#lib/proxy/telemetry/live-routes.ts";
import { type AdminIndex, indexRoute, quitRoute } from "#lib/obs/admin-routes.ts";
import type { HttpReply, Route, Routes } from "#lib/obs/http-server.ts";
import type { LogScopes } from "#lib/obs/log-scopes.ts";
import type { Family } from "#lib/obs/metric-family.ts";
import { metricsRoutes as routesOfMetrics } from "#lib/obs/metrics-routes.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { CertificateManager } from "#lib/pki/certificate-manager.ts";
import type { XdsCounters } from "#lib/xds/xds-counters.ts";
import type { EventHub } from "#lib/proxy/telemetry/event-hub.ts";
import { loggingRoute } from "#lib/obs/logging-route.ts";
import type { Config } from "../config.ts";
import type { DnsCounters } from "../dns/dns-counters.ts";
import type { Pods } from "../inpod/pods.ts";
import { collect } from "../metrics.ts";
import type { DataPlane } from "../state/data-plane.ts";
import { configDump } from "./dump.ts";
import { explainRoute } from "./explain.ts";
import { cpuProfileRoute, heapActivationRoute, heapProfileRoute } from "./profile.ts";

/** What the routes look at; all borrowed. */
export interface AdminParts {
  readonly config: Config;
  readonly tables: MeshTables;
  readonly dataPlane: DataPlane;
  readonly certificates: CertificateManager;
  readonly pods: Pods;
  readonly events: EventHub;
  readonly scopes: LogScopes;
  readonly dnsCounters: DnsCounters;
  readonly xdsCounters: XdsCounters;
  readonly shutdown: () => void;
}

const INDEX: AdminIndex = [
  ["/config_dump", "all workloads, services, policies, certificates and pods of this proxy"],
  ["/logging", "query or change log levels (POST)"],
  ["/quitquitquit", "shut down (POST)"],
  ["/ambit/tunnels", "live connections"],
  ["/ambit/events", "connections as they open, close and are refused (NDJSON; since=&lt;seq&gt;)"],
  ["/ambit/explain", "decide a connection on paper (source, destination)"],
  ["/debug/pprof/profile", "CPU profile of the main thread (seconds, frequency)"],
  ["/debug/pprof/heap", "heap profile of the main thread"],
  ["/debug/pprof/heap/profiling", "switch heap profiling (activate)"],
];

export function adminRoutes(parts: AdminParts): Routes {
  const { config, tables, scopes } = parts;
  return new Map<string, Route>([
    ["/", indexRoute("ztunnel", INDEX)],
    ["/config_dump", { handle: () => dump(parts) }],
    ["/logging", loggingRoute(scopes)],
    ["/quitquitquit", quitRoute(parts.shutdown)],
    ["/ambit/tunnels", { methods: ["GET", "HEAD"], handle: () => tunnels(parts) }],
    ["/ambit/events", eventsRoute(parts.events)],
    ["/ambit/explain", explainRoute(tables, config)],
    ["/debug/pprof/profile", cpuProfileRoute],
    ["/debug/pprof/heap", heapProfileRoute],
    ["/debug/pprof/heap/profiling", heapActivationRoute],
  ]);
}

export function metricsRoutes(parts: AdminParts): Routes {
  return routesOfMetrics(() => families(parts));
}

async function dump(parts: AdminParts): Promise<HttpReply> {
  const { config, tables, certificates, pods, dataPlane } = parts;
  const { answers } = await dataPlane.snapshots("connections");
  const body = configDump({
    config,
    tables,
    certificates: certificates.views(),
    pods: pods.views(),
    connections: answers.flatMap(({ snapshot }) => snapshot.connections ?? []),
  });
  return { type: "application/json", body };
}

async function families(parts: AdminParts): Promise<Family[]> {
  const { dataPlane, pods, config } = parts;
  const { answers } = await dataPlane.snapshots("metrics");
  return collect({
    workers: answers.flatMap(({ snapshot }) => snapshot.metrics ?? []),
    dns: parts.dnsCounters.all(),
    xds: parts.xdsCounters,
    pods,
    build: { tag: config.istioVersion },
  });
}

async function tunnels({ config, dataPlane }: AdminParts): Promise<HttpReply> {
  const { answers, failed } = await dataPlane.snapshots("tunnels");
  return tunnelList({
    views: answers.flatMap(({ snapshot }) => snapshot.tunnels ?? []),
    cluster: config.clusterId,
    partial: failed.map((error) => ({ node: config.nodeName, error })),
  });
}
