// The paths of the admin, metrics and readiness ports, put together from what answers them.
import { readdirSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { HttpReply, HttpRequest, Route, Routes } from "#lib/obs/http-server.ts";
import type { LogScopes } from "#lib/obs/log-scopes.ts";
import type { Readiness } from "#lib/obs/readiness.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { Config } from "../config.ts";
import type { DnsCounters } from "../dns/dns-counters.ts";
import type { CertificateManager } from "../identity/certificate-manager.ts";
import type { Pods } from "../inpod/pods.ts";
import { collect, type XdsCounters } from "../metrics.ts";
import type { DataPlane } from "../state/data-plane.ts";
import { configDump } from "./dump.ts";
import type { EventHub } from "./event-hub.ts";
import { explainRoute } from "./explain.ts";
import { loggingRoute } from "./logging.ts";
import { metricsText } from "./metrics-text.ts";
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

const INDEX: readonly (readonly [path: string, what: string])[] = [
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
    ["/", { handle: () => ({ type: "text/html; charset=utf-8", body: indexPage() }) }],
    ["/config_dump", { handle: () => dump(parts) }],
    ["/logging", loggingRoute(scopes)],
    [
      "/quitquitquit",
      {
        methods: ["POST"],
        handle: () => {
          setImmediate(parts.shutdown);
          return { body: "shutdown now\n" };
        },
      },
    ],
    ["/ambit/tunnels", { methods: ["GET", "HEAD"], handle: () => tunnels(parts) }],
    ["/ambit/events", { methods: ["GET"], handle: (request) => events(parts, request) }],
    ["/ambit/explain", explainRoute(tables, config)],
    ["/debug/pprof/profile", cpuProfileRoute],
    ["/debug/pprof/heap", heapProfileRoute],
    ["/debug/pprof/heap/profiling", heapActivationRoute],
  ]);
}

export function metricsRoutes(parts: AdminParts): Routes {
  const route: Route = { handle: (request) => scrape(parts, request) };
  return new Map([
    ["/metrics", route],
    ["/stats/prometheus", route],
  ]);
}

export function readinessRoutes(readiness: Readiness): Routes {
  return new Map<string, Route>([
    [
      "/healthz/ready",
      {
        methods: ["GET"],
        handle: (): HttpReply => {
          const pending = readiness.pending();
          if (pending.length === 0) return { body: "ready\n" };
          return { status: 500, body: `not ready, pending: ${pending.join(", ")}\n` };
        },
      },
    ],
  ]);
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

async function tunnels({ config, dataPlane }: AdminParts): Promise<HttpReply> {
  const { answers, failed } = await dataPlane.snapshots("tunnels");
  const list = {
    apiVersion: "ambit/v1",
    kind: "TunnelList",
    items: answers.flatMap(({ snapshot }) => snapshot.tunnels ?? []),
    meta: {
      generatedAt: new Date().toISOString(),
      cluster: config.clusterId,
      partial: failed.map((error) => ({ node: config.nodeName, error })),
    },
  };
  return { type: "application/json", body: `${JSON.stringify(list)}\n` };
}

async function events(
  { events: hub }: AdminParts,
  { url, signal }: HttpRequest,
): Promise<HttpReply> {
  const since = url.searchParams.get("since");
  if (since !== null && !/^\d{1,15}$/.test(since))
    return { status: 400, body: "since must be the number of an event\n" };
  return {
    type: "application/x-ndjson",
    body: await hub.open(since === null ? null : Number(since), signal),
  };
}

const compress = promisify(gzip);

async function scrape(parts: AdminParts, { headers }: HttpRequest): Promise<HttpReply> {
  const { dataPlane, pods, config } = parts;
  const { answers } = await dataPlane.snapshots("metrics");
  const text = await metricsText(
    collect({
      workers: answers.flatMap(({ snapshot }) => snapshot.metrics ?? []),
      dns: parts.dnsCounters.all(),
      xds: parts.xdsCounters,
      pods,
      build: { tag: config.istioVersion },
      files: openFiles(),
    }),
  );
  const accepted = headers.accept ?? "";
  const type = accepted.includes("application/openmetrics-text")
    ? "application/openmetrics-text;charset=utf-8;version=1.0.0"
    : "text/plain; charset=utf-8";
  if (!/\bgzip\b/.test(String(headers["accept-encoding"] ?? ""))) return { type, body: text };
  return { type, headers: { "content-encoding": "gzip" }, body: await compress(text) };
}

function openFiles(): { readonly open: number; readonly max: number } {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
  return { open: readdirSync("/proc/self/fd").length, max: Number(limit ?? 0) };
}

function indexPage(): string {
  const items = INDEX.map(([path, what]) => `<li><a href="${path}">${path}</a> ${what}</li>`);
  return `<!doctype html>\n<title>ztunnel</title>\n<h1>ztunnel</h1>\n<ul>\n${items.join("\n")}\n</ul>\n`;
}
