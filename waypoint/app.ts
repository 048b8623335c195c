// The waypoint from start to end: what starts in which order, what makes it ready, how it drains.
import { randomFillSync } from "node:crypto";
import { systemClock } from "#lib/base/clock.ts";
import { CaClient } from "#lib/grpc/ca-client.ts";
import { connectionSettings } from "#lib/grpc/control-plane.ts";
import { Identities } from "#lib/proxy/identities.ts";
import { OnDemandDns } from "#lib/proxy/on-demand-dns.ts";
import { PeerBook } from "#lib/hbone/peer-book.ts";
import { HbonePool } from "#lib/hbone/pool.ts";
import { dataPlaneAccessLevel, filterAccessLines } from "#lib/proxy/telemetry/access-lines.ts";
import { AccessLog } from "#lib/proxy/telemetry/access-log.ts";
import { EventHub } from "#lib/proxy/telemetry/event-hub.ts";
import { Telemetry } from "#lib/proxy/telemetry/telemetry.ts";
import { MeshTables } from "#lib/model/tables.ts";
import { WaypointPolicies } from "#lib/model/waypoint-policy.ts";
import { HttpServer, type HttpListen } from "#lib/obs/http-server.ts";
import type { LogScopes } from "#lib/obs/log-scopes.ts";
import { metricsRoutes } from "#lib/obs/metrics-routes.ts";
import { readinessRoutes } from "#lib/obs/readiness-routes.ts";
import { Readiness } from "#lib/obs/readiness.ts";
import { CertificateManager } from "#lib/pki/certificate-manager.ts";
import { fetchFrom } from "#lib/pki/signer.ts";
import { Reactor } from "#lib/sys/reactor.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import { seededRandom } from "#lib/wire/traceparent.ts";
import { XdsCounters } from "#lib/xds/xds-counters.ts";
import { adminRoutes } from "./admin/routes.ts";
import type { Config } from "./config.ts";
import type { WaypointContext } from "./context.ts";
import { drain } from "./drain.ts";
import { l4Handler } from "./l4/l4-connection.ts";
import { HboneListener } from "./listen/hbone-listener.ts";
import { collect } from "./metrics.ts";
import { MeshFeed } from "./state/mesh-feed.ts";
import { OwnRecord } from "./state/own-record.ts";

export interface AppOptions {
  readonly config: Config;
  readonly scopes: LogScopes;
  readonly writeLines: (text: string | Uint8Array) => void;
  /** Aborts when the process is asked to end: draining begins. */
  readonly stop: AbortSignal;
}

const LOG_FLUSH_MS = 100;
/** How often listeners of `/ambit/events` are served. */
const EVENT_PAUSE_MS = 250;

/**
 * Runs the waypoint until it is asked to end and has drained.
 * @throws whatever makes going on impossible: a port taken
 */
export async function runApp(options: AppOptions): Promise<void> {
  const { config, scopes } = options;
  const log = scopes.logger("app");
  const limit = raiseOpenFiles();
  log.info({ old: limit.old, new: limit.new }, "open file limit");
  const stop = new AbortController();
  options.stop.addEventListener("abort", () => stop.abort(), { once: true });
  const live = new AbortController();

  const readiness = new Readiness();
  const gates = {
    state: readiness.block("state manager"),
    record: readiness.block("own record"),
    listener: readiness.block("listener"),
  };
  await using undo = new AsyncDisposableStack();
  const onHttpError = (error: unknown, path: string): void =>
    log.error({ error, path }, "admin request failed");
  const { ports } = config;
  undo.use(await HttpServer.listen(wildcard(config, ports.readiness), readinessRoutes(readiness)));

  const parts = makeParts(options, readiness);
  const { context, certificates, feed, counters } = parts;
  undo.defer(() => context.reactor[Symbol.dispose]());
  context.reactor.nest();
  certificates.prefetch(config.identity);
  const tasks = [feed.run(live.signal), certificates.run(live.signal)];
  undo.defer(async () => {
    live.abort();
    await Promise.allSettled(tasks);
    parts.ca[Symbol.dispose]();
  });

  let listener: HboneListener | null = null;
  const events = new EventHub({
    dataPlane: {
      snapshots: async (_of, since) => ({
        answers: [{ worker: 0, snapshot: { events: context.telemetry.events.since(since(0)) } }],
      }),
    },
    pause: (signal) => systemClock.sleep(EVENT_PAUSE_MS, signal),
    now: Date.now,
  });
  const admin = { context, certificates, events, scopes, shutdown: () => stop.abort() };
  undo.use(await HttpServer.listen(loopback(config), adminRoutes(admin), onHttpError));
  const metrics = metricsRoutes(async () =>
    collect(context, counters, listener?.tunnels.size ?? 0),
  );
  const scraped = [...wildcard(config, ports.metrics), ...wildcard(config, ports.envoyMetrics)];
  undo.use(await HttpServer.listen(scraped, metrics, onHttpError));
  const { key } = config.gateway;
  log.info({ gateway: key, identity: config.identity, pod: config.pod.name }, "waypoint started");

  // Whoever connects before is better refused than made to wait for what may not come.
  await Promise.race([feed.synced(), aborted(stop.signal)]);
  if (!stop.signal.aborted) gates.state[Symbol.dispose]();
  await Promise.race([
    Promise.all([parts.certified.then(() => {}), parts.recorded]),
    aborted(stop.signal),
  ]);
  if (!stop.signal.aborted) {
    gates.record[Symbol.dispose]();
    listener = new HboneListener(context, () => l4Handler(context));
    gates.listener[Symbol.dispose]();
    log.info({ gateway: key }, "waypoint serves");
  }

  await aborted(stop.signal);
  readiness.block("draining");
  log.info({ deadlineMs: config.drainDeadlineMs }, "draining");
  if (listener !== null) await drain(context, listener, systemClock);
  context.telemetry.log.flush();
  log.info("drained");
}

interface Parts {
  readonly context: WaypointContext;
  readonly ca: CaClient;
  readonly certificates: CertificateManager;
  readonly feed: MeshFeed;
  readonly counters: XdsCounters;
  /** Resolves with the first certificate. */
  readonly certified: Promise<void>;
  /** Resolves once the waypoint's own record is known. */
  readonly recorded: Promise<void>;
}

function makeParts({ config, scopes, writeLines }: AppOptions, readiness: Readiness): Parts {
  const clock = systemClock;
  const { random } = Math;
  const reactor = new Reactor();
  const tables = new MeshTables();
  const policies = new WaypointPolicies({
    gateway: config.gateway.key,
    gatewayClass: config.gateway.className,
  });
  const accessLog = new AccessLog({
    level: dataPlaneAccessLevel(scopes.level("access")),
    format: config.logFormat,
    emit: (lines) => writeLines(filterAccessLines(lines, scopes.level("access"))),
  });
  scopes.onChange(() => {
    accessLog.level = dataPlaneAccessLevel(scopes.level("access"));
  });
  flushSoon(reactor, accessLog);

  const certified = Promise.withResolvers<void>();
  let pending: Disposable | null = readiness.block("certificate");
  const identities = new Identities((identity) => {
    // what is known now is the answer; a first fetch under way answers when it ends
    const { state, material, error } = certificates.need(identity);
    if (material !== null) identities.set(material);
    else if (state === "unavailable") identities.fail(identity, error ?? "no certificate");
  });
  const ca = new CaClient(connectionSettings(config.ca, config));
  const certificates = new CertificateManager({
    fetch: fetchFrom(ca, config.secretTtlMs, "own"),
    onAvailable: (material) => {
      identities.set(material);
      pending?.[Symbol.dispose]();
      pending = null;
      certified.resolve();
    },
    onUnavailable: (identity, reason) => {
      identities.fail(identity, reason);
      pending ??= readiness.block("certificate");
    },
    log: scopes.logger("identity"),
    clock,
    random,
  });

  const dns = new OnDemandDns({ ipv6Enabled: config.ipv6Enabled, random });
  const own = new OwnRecord(tables, { ...config.pod, clusterId: config.clusterId });
  const context: WaypointContext = {
    config,
    reactor,
    tables,
    policies,
    own,
    identities,
    telemetry: new Telemetry(reactor, accessLog),
    dryRunLog: scopes.logger("rbac"),
    peers: new PeerBook(),
    pool: new HbonePool({
      reactor,
      maxStreams: config.pool.maxStreams,
      idleMs: config.pool.unusedReleaseMs,
    }),
    live: new Set(),
    random,
    randomUint32: seededRandom(seed()),
    resolve: (hostname, prefer) => dns.lookup(hostname, prefer),
  };
  const recorded = Promise.withResolvers<void>();
  const counters = new XdsCounters();
  const feed = new MeshFeed({
    config,
    tables,
    policies,
    counters,
    onAddresses: () => {
      if (own.current !== null) recorded.resolve();
    },
    onPolicies: () => {
      for (const connection of [...context.live]) connection.recheck();
    },
    log: scopes.logger("xds"),
    clock,
  });
  return {
    context,
    ca,
    certificates,
    feed,
    counters,
    certified: certified.promise,
    recorded: recorded.promise,
  };
}

/** Lines are written a few at a time, and none stays longer than a moment. */
function flushSoon(reactor: Reactor, log: AccessLog): void {
  let isPlanned = false;
  reactor.beforeSleep = () => {
    if (isPlanned || !log.hasLines) return;
    isPlanned = true;
    reactor.after(LOG_FLUSH_MS, () => {
      isPlanned = false;
      log.flush();
    });
  };
}

function seed(): [number, number, number, number] {
  const [a = 0, b = 0, c = 0, d = 0] = randomFillSync(new Uint32Array(4));
  return [a, b, c, d];
}

function wildcard(config: Config, port: number): HttpListen[] {
  return [{ host: config.ipv6Enabled ? "::" : "0.0.0.0", port }];
}

function loopback({ ipv6Enabled, ports }: Config): HttpListen[] {
  const v4 = { host: "127.0.0.1", port: ports.admin };
  return ipv6Enabled ? [v4, { host: "::1", port: ports.admin, ipv6Only: true }] : [v4];
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
