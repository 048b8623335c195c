// The admin port (15000, loopback): what this waypoint knows, what is open now, and what happens.
import type { EventHub } from "#lib/proxy/telemetry/event-hub.ts";
import { tunnelViews } from "#lib/proxy/telemetry/live.ts";
import { eventsRoute, tunnelList } from "#lib/proxy/telemetry/live-routes.ts";
import { type AdminIndex, indexRoute, quitRoute } from "#lib/obs/admin-routes.ts";
import type { Route, Routes } from "#lib/obs/http-server.ts";
import type { LogScopes } from "#lib/obs/log-scopes.ts";
import { loggingRoute } from "#lib/obs/logging-route.ts";
import type { CertificateManager } from "#lib/pki/certificate-manager.ts";
import type { WaypointContext } from "../context.ts";
import { configDump } from "./dump.ts";

/** What the routes look at; all borrowed. */
export interface AdminParts {
  readonly context: WaypointContext;
  readonly certificates: CertificateManager;
  readonly events: EventHub;
  readonly scopes: LogScopes;
  readonly shutdown: () => void;
}

const INDEX: AdminIndex = [
  ["/config_dump", "all workloads, services, policies and certificates of this waypoint"],
  ["/logging", "query or change log levels (POST)"],
  ["/quitquitquit", "shut down (POST)"],
  ["/ambit/tunnels", "live connections"],
  ["/ambit/events", "connections as they open, close and are refused (NDJSON; since=&lt;seq&gt;)"],
];

export function adminRoutes(parts: AdminParts): Routes {
  const { context, scopes, events } = parts;
  return new Map<string, Route>([
    ["/", indexRoute("waypoint", INDEX)],
    [
      "/config_dump",
      {
        handle: () => ({ type: "application/json", body: configDump(context, parts.certificates) }),
      },
    ],
    ["/logging", loggingRoute(scopes)],
    ["/quitquitquit", quitRoute(parts.shutdown)],
    ["/ambit/tunnels", { methods: ["GET", "HEAD"], handle: () => tunnels(context) }],
    ["/ambit/events", eventsRoute(events)],
  ]);
}

/** Ids begin with the pod's name: a node proxy's begin with the node's. */
function tunnels({ live, config, reactor }: WaypointContext): ReturnType<typeof tunnelList> {
  const { name, namespace } = config.pod;
  return tunnelList({
    views: tunnelViews(live, config.nodeName, reactor.nowMs, `${namespace}/${name}`),
    cluster: config.clusterId,
    partial: [],
  });
}
