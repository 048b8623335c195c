// The node proxy from start to end: what starts in which order, what makes it ready, how it drains.
// Source of the order and the deadlines: istio/ztunnel src/app.rs and ARCHITECTURE.md.
import { systemClock } from "#lib/base/clock.ts";
import { HttpServer, type HttpListen } from "#lib/obs/http-server.ts";
import type { LogScopes } from "#lib/obs/log-scopes.ts";
import { readinessRoutes } from "#lib/obs/readiness-routes.ts";
import { Readiness } from "#lib/obs/readiness.ts";
import { closeFd, homeNetns, inNetns } from "#lib/sys/netns.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import { tcpSocket } from "#lib/sys/socket.ts";
import { EventHub } from "#lib/proxy/telemetry/event-hub.ts";
import { hasIpv6Loopback } from "#lib/sys/ipv6-loopback.ts";
import { adminRoutes, metricsRoutes, type AdminParts } from "./admin/routes.ts";
import type { Config } from "./config.ts";
import { ControlSide } from "./control-side.ts";
import { trimHeap } from "./trim-heap.ts";

export interface AppOptions {
  readonly config: Config;
  readonly scopes: LogScopes;
  /** Module of the data-plane workers. */
  readonly worker: URL;
  readonly writeLines: (text: string | Uint8Array) => void;
  /** Aborts when the process is asked to end (SIGTERM, SIGINT): draining begins. */
  readonly stop: AbortSignal;
}

/** How often listeners of `/ambit/events` are served. */
const EVENT_PAUSE_MS = 250;

/**
 * Runs the proxy until it is asked to end and has drained.
 * @throws whatever makes going on impossible: a port taken, a worker lost, an agent of another version
 */
export async function runApp(options: AppOptions): Promise<void> {
  const { config, scopes } = options;
  const log = scopes.logger("app");
  const limit = raiseOpenFiles();
  log.info({ old: limit.old, new: limit.new }, "open file limit");
  checkCapabilities(config.packetMark);

  const fatal = Promise.withResolvers<never>();
  fatal.promise.catch(() => {}); // may come before anybody waits for it
  const stop = new AbortController();
  const shutdown = (): void => stop.abort();
  options.stop.addEventListener("abort", shutdown, { once: true });
  const live = new AbortController();

  const readiness = new Readiness();
  const gates = {
    state: readiness.block("state manager"),
    proxy: readiness.block("proxy"),
    dns: config.dnsCapture ? readiness.block("dns proxy") : null,
  };
  await using undo = new AsyncDisposableStack();
  const onHttpError = (error: unknown, path: string): void =>
    log.error({ error, path }, "admin request failed");
  undo.use(
    await HttpServer.listen(wildcard(config, config.ports.readiness), readinessRoutes(readiness)),
  );

  const agent = new AgentGate(readiness);
  const control: ControlSide = undo.use(
    new ControlSide({
      config,
      scopes,
      worker: options.worker,
      writeLines: options.writeLines,
      onAgentLive: (isLive) => agent.update({ isLive }),
      onPodsChanged: () => agent.update({ pending: control.pods.pending }),
      onFatal: fatal.reject,
    }),
  );
  const tasks = [control.xds.run(live.signal), control.certificates.run(live.signal)];
  undo.defer(async () => {
    live.abort();
    await Promise.allSettled(tasks);
  });

  const parts = adminParts(options, control, shutdown);
  undo.use(await HttpServer.listen(loopback(config.ports.admin), adminRoutes(parts), onHttpError));

  const agentTask = followAgent(control, stop.signal, () => {
    gates.state[Symbol.dispose]();
    gates.dns?.[Symbol.dispose]();
  });
  agentTask.catch(fatal.reject);
  undo.use(
    await HttpServer.listen(
      wildcard(config, config.ports.metrics),
      metricsRoutes(parts),
      onHttpError,
    ),
  );
  void control.dataPlane.ready().then(() => gates.proxy[Symbol.dispose]());
  log.info({ node: config.nodeName, workers: config.workerThreads }, "ztunnel started");
  trimHeap();

  await Promise.race([aborted(stop.signal), fatal.promise]);
  log.info({ deadlineMs: config.drainDeadlineMs }, "draining");
  await agentTask; // the agent's socket is closed before any listener is
  control.pods.drainDns();
  await Promise.race([control.dataPlane.drain(config.drainDeadlineMs), fatal.promise]);
  log.info("drained");
}

/** Connects to the agent once the mesh is known, and keeps trying the pods that could not start. */
async function followAgent(
  control: ControlSide,
  signal: AbortSignal,
  onSynced: () => void,
): Promise<void> {
  await Promise.race([control.xds.synced(), aborted(signal)]);
  if (signal.aborted) return;
  onSynced();
  const retries = control.pods.retryLoop(signal);
  await control.zds.run(signal);
  await retries;
}

/** Pending until the agent's snapshot is in and every pod is up; and again when either is lost. */
class AgentGate {
  readonly #readiness: Readiness;
  #blocker: Disposable | null;
  #isLive = false;
  #pending = 0;

  constructor(readiness: Readiness) {
    this.#readiness = readiness;
    this.#blocker = readiness.block("workload proxy manager");
  }

  update(change: { readonly isLive?: boolean; readonly pending?: number }): void {
    this.#isLive = change.isLive ?? this.#isLive;
    this.#pending = change.pending ?? this.#pending;
    const isReady = this.#isLive && this.#pending === 0;
    if (!isReady) {
      this.#blocker ??= this.#readiness.block("workload proxy manager");
      return;
    }
    this.#blocker?.[Symbol.dispose]();
    this.#blocker = null;
  }
}

function adminParts(options: AppOptions, control: ControlSide, shutdown: () => void): AdminParts {
  return {
    config: options.config,
    scopes: options.scopes,
    tables: control.tables,
    dataPlane: control.dataPlane,
    certificates: control.certificates,
    pods: control.pods,
    events: new EventHub({
      dataPlane: control.dataPlane,
      pause: (signal) => systemClock.sleep(EVENT_PAUSE_MS, signal),
      now: Date.now,
    }),
    dnsCounters: control.dnsCounters,
    xdsCounters: control.xdsCounters,
    shutdown,
  };
}

/** Refuses to start where no pod could be served, rather than failing pod by pod. @throws {SysError} EPERM */
function checkCapabilities(mark: number): void {
  inNetns(homeNetns(), () => null);
  closeFd(tcpSocket({ family: "ipv4", mark }));
}

function wildcard(config: Config, port: number): HttpListen[] {
  return [{ host: config.ipv6Enabled ? "::" : "0.0.0.0", port }];
}

function loopback(port: number): HttpListen[] {
  const v4 = { host: "127.0.0.1", port };
  return hasIpv6Loopback() ? [v4, { host: "::1", port, ipv6Only: true }] : [v4];
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
