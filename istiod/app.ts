// istiod put together: cluster → tables → pushes, the CA beside it, and the ports. Owns everything it starts.
// What comes from Kubernetes and what from a directory is decided in backend.ts.
import { readFileSync } from "node:fs";
import { systemClock } from "#lib/base/clock.ts";
import { parseServerAddress } from "#lib/grpc/address.ts";
import { GrpcServer } from "#lib/grpc/server.ts";
import { createCertificateMethod, deltaServerMethod } from "#lib/grpc/services.ts";
import type { ElectionTiming } from "#lib/kube/api-server/leader-election.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { CaBundle } from "#lib/pki/ca-bundle.ts";
import type { DeltaDiscoveryRequest } from "#lib/wire/gen/discovery.gen.ts";
import { Authenticator } from "./authenticate.ts";
import type { Backend } from "./backend.ts";
import { CertificateAuthority, servingNames } from "./ca/authority.ts";
import type { CaSource } from "./ca/ca-source.ts";
import { CertificateService } from "./ca/certificate-service.ts";
import { PodIndex } from "./ca/pod-index.ts";
import { writeRootFile } from "./ca/root-file.ts";
import { effectiveMesh, type Config } from "./config.ts";
import { debugPages } from "./debug/pages.ts";
import { DebugServer } from "./debug/server.ts";
import { IstiodError } from "./errors.ts";
import { gatewayOptions } from "./gateway/app-settings.ts";
import { GatewayTasks } from "./gateway/gateway-tasks.ts";
import { LeaderTasks } from "./leader-tasks.ts";
import type { MeshConfig } from "./mesh-config.ts";
import { Metrics } from "./metrics.ts";
import { MeshSource } from "./push/mesh-source.ts";
import { Pusher } from "./push/pusher.ts";
import { PushState } from "./push/push-state.ts";
import { XdsService } from "./push/xds-service.ts";
import { sameTables, tableSettings } from "./table-settings.ts";
import { MeshTranslator } from "./translate/translator.ts";
import { MalformedObjects } from "./watch/malformed-objects.ts";
import { MeshWatcher } from "./watch/mesh-watcher.ts";

export interface AppOptions {
  readonly config: Config;
  /** Borrowed. */
  readonly backend: Backend;
  readonly log: Logger;
  readonly version: string;
  /** For tests: Istio's takes half a minute to replace a leader. */
  readonly electionTiming?: ElectionTiming;
}

/** How long streams get to end by themselves before their connections are cut. */
const END_STREAMS_MS = 1_000;

export class App implements AsyncDisposable {
  readonly #options: AppOptions;
  readonly #stop = new AbortController();
  readonly #tasks: Promise<void>[] = [];
  readonly #pods = new PodIndex();
  readonly #metrics: Metrics;
  readonly #translator: MeshTranslator;
  readonly #watcher: MeshWatcher;
  readonly #leader: LeaderTasks;
  readonly #gateways: GatewayTasks | null;
  readonly #synced = Promise.withResolvers<void>();
  /** In force: the one of the start until the file changes. */
  #mesh: MeshConfig;
  #server: GrpcServer | null = null;
  #debug: DebugServer | null = null;
  #xds: XdsService | null = null;
  #pusher: Pusher | null = null;
  #ca: { readonly source: CaSource; readonly authority: CertificateAuthority } | null = null;
  #isReady = false;
  /** Ports really bound; 0 until then. */
  port = 0;
  monitoringPort = 0;

  constructor(options: AppOptions) {
    this.#options = options;
    this.#metrics = new Metrics(options.version);
    const { config, backend, log } = options;
    this.#mesh = config.mesh;
    this.#translator = new MeshTranslator(tableSettings(config, config.mesh));
    const malformed = new MalformedObjects((key) => this.#leader.malformedChanged(key));
    this.#leader = new LeaderTasks({
      ...backend,
      malformed,
      config,
      log,
      translator: this.#translator,
      rootPem: () => this.#ca?.authority.bundle.rootPem ?? null,
      metrics: this.#metrics,
      clock: systemClock,
      timing: options.electionTiming,
    });
    this.#gateways = config.gatewayApi ? this.#gatewayTasks() : null;
    this.#leader.add(...(this.#gateways?.leaderTasks ?? []));
    this.#watcher = new MeshWatcher({
      ...backend,
      malformed,
      log,
      translator: this.#translator,
      onPods: (events) => this.#pods.update(events),
      onDelta: (delta) => this.#pusher?.publish(delta),
      onSynced: () => this.#synced.resolve(),
      onUpdated: () => {
        if (this.#leader.updated()) this.#gateways?.reconsider();
      },
    });
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /**
   * Starts in Istio's order: the probe port answers first, then mesh configuration, CA, caches; xDS and CA
   * are served only when the tables are complete, since an early answer would tell clients that
   * everything else is gone. Resolves when serving.
   * @throws {IstiodError | PkiError} when it cannot start; dispose then as well
   */
  async start(): Promise<void> {
    const { config, backend, log } = this.#options;
    await this.#startDebug();
    await this.#setMesh(await backend.readMesh(this.#stop.signal));
    const authority = await this.#startCa();
    const { tokens } = backend;
    const authenticator = new Authenticator({ tokens, clusterId: config.clusterId, log });
    const xds = this.#startPushes(authenticator);
    await this.#syncCaches();
    this.#stop.signal.throwIfAborted();
    const gateways = this.#gateways;
    if (gateways !== null) this.#run(gateways.name, (signal) => gateways.run(signal));
    this.#run("lead", (signal) => this.#leader.run(signal));
    this.#followMeshConfig();
    const server = new GrpcServer(
      await authority.serving(this.#servingNames()),
      config.maxConnectionAgeMs === null ? {} : { maxConnectionAgeMs: config.maxConnectionAgeMs },
    );
    this.#server = server;
    server.handleStream<DeltaDiscoveryRequest, Buffer>(deltaServerMethod, (stream) =>
      xds.handle(stream),
    );
    const certificates = this.#certificates(authenticator, authority);
    server.handleUnary(createCertificateMethod, (request, call) =>
      certificates.createCertificate(request, call.metadata, call.getPeer()),
    );
    try {
      this.port = await server.listen(config.address);
    } catch (cause) {
      throw new IstiodError("LISTEN", `Cannot listen on ${config.address}`, { cause });
    }
    this.#isReady = true;
    log.info(
      { address: config.address, port: this.port, ca: this.#ca?.source.kind ?? "" },
      "serving xds and certificates",
    );
  }

  /** Stops taking new work, lets clients go, and resolves when everything is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isReady = false;
    this.#xds?.endAll();
    await this.#server?.drain(Math.min(END_STREAMS_MS, this.#options.config.shutdownMs));
    this.#stop.abort();
    await Promise.allSettled(this.#tasks);
    await this.#debug?.[Symbol.asyncDispose]();
  }

  async #startDebug(): Promise<void> {
    const { config, version, log } = this.#options;
    const pages = debugPages({
      config: () => ({ ...config, mesh: this.#mesh }),
      version,
      tables: this.#translator,
      metrics: this.#metrics,
      connections: () => this.#xds?.status() ?? [],
      isReady: () => this.#isReady,
      caStatus: () => this.#caStatus(),
    });
    this.#debug = new DebugServer(pages, log);
    this.monitoringPort = await this.#debug.listen(config.monitoringAddress);
  }

  async #startCa(): Promise<CertificateAuthority> {
    const { config, backend, log } = this.#options;
    const source = backend.caSource(this.#mesh.trustDomain);
    const authority = new CertificateAuthority(await source.load(this.#stop.signal), {
      defaultTtlMs: config.defaultCertTtlMs,
      maxTtlMs: config.maxCertTtlMs,
      allowRootChange: config.allowRootChange,
      now: systemClock.now,
    });
    this.#ca = { source, authority };
    await this.#announceCa(authority.bundle);
    this.#run("watch-ca", (signal) =>
      source.watch(async (bundle) => {
        if (!authority.replace(bundle)) return;
        this.#server?.setCertificate(await authority.serving(this.#servingNames()));
        await this.#announceCa(bundle);
        this.#leader.rootChanged();
        log.info({ signer: bundle.signer.certificate.serial }, "CA replaced");
      }, signal),
    );
    return authority;
  }

  /** Roots to their file, ends to the metrics. */
  async #announceCa(bundle: CaBundle): Promise<void> {
    const { rootCertFile } = this.#options.config;
    if (rootCertFile !== null) await writeRootFile(rootCertFile, bundle.rootPem);
    const ends = bundle.roots.map((root) => root.notAfterMs / 1000);
    this.#metrics.rootExpiry.set(Math.min(...ends));
    this.#metrics.chainExpiry.set(bundle.signer.certificate.notAfterMs / 1000);
  }

  #startPushes(authenticator: Authenticator): XdsService {
    const { config, log, version } = this.#options;
    const metrics = this.#metrics;
    const tables = this.#translator;
    const state = new PushState(
      new MeshSource({
        tables,
        clusterId: config.clusterId,
        podsOnNode: (node) => this.#pods.onNode(node),
      }),
    );
    const service = new XdsService({ authenticator, state, metrics, log, version });
    this.#xds = service;
    const now = performance.now.bind(performance);
    this.#pusher = new Pusher({
      tables,
      state,
      connections: service.connections,
      metrics,
      log,
      now,
    });
    return service;
  }

  async #syncCaches(): Promise<void> {
    this.#run("watch-mesh", (signal) => this.#watcher.run(signal));
    const stopped = Promise.withResolvers<void>();
    this.#stop.signal.addEventListener("abort", () => stopped.resolve(), { once: true });
    await Promise.race([this.#synced.promise, stopped.promise]);
  }

  #followMeshConfig(): void {
    const { config, backend, log } = this.#options;
    const updates = {
      initial: this.#mesh,
      override: (mesh: MeshConfig) => effectiveMesh(mesh, config),
      onChange: (mesh: MeshConfig) => this.#setMesh(mesh),
      metrics: this.#metrics,
      log,
    };
    this.#run("watch-mesh-config", (signal) => backend.watchMesh(updates, signal));
  }

  /** @throws {KubeError} for settings the tables cannot be made of; then nothing has changed */
  async #setMesh(mesh: MeshConfig): Promise<void> {
    const settings = tableSettings(this.#options.config, mesh);
    const hasNewName = mesh.discoveryAddress !== this.#mesh.discoveryAddress;
    const pair = hasNewName ? await this.#ca?.authority.serving(this.#servingNames(mesh)) : null;
    if (!sameTables(settings, this.#translator.config)) this.#watcher.reconfigure(settings);
    this.#mesh = mesh;
    this.#gateways?.reconsider();
    if (pair) this.#server?.setCertificate(pair);
  }

  #gatewayTasks(): GatewayTasks {
    const { config, backend, log } = this.#options;
    return new GatewayTasks({
      ...backend,
      ...gatewayOptions(config, config.waypointImage, () => this.#mesh),
      isSelected: (namespace) => this.#translator.isSelected(namespace),
      metrics: this.#metrics,
      log,
      clock: systemClock,
    });
  }

  #certificates(authenticator: Authenticator, authority: CertificateAuthority): CertificateService {
    const { config, log } = this.#options;
    return new CertificateService({
      authenticator,
      authority,
      nodes: {
        trustedAccounts: config.trustedNodeAccounts,
        clusterId: config.clusterId,
        trustDomain: () => this.#mesh.trustDomain,
        pods: this.#pods,
      },
      metrics: this.#metrics,
      log,
    });
  }

  #servingNames({ discoveryAddress }: MeshConfig = this.#mesh): string[] {
    const { namespace, revision, customHosts } = this.#options.config;
    const hosts = discoveryAddress === null ? [] : [parseServerAddress(discoveryAddress).host];
    return servingNames({ namespace, revision, customHosts: [...hosts, ...customHosts] });
  }

  #caStatus(): Record<string, unknown> {
    if (this.#ca === null) return { state: "starting" };
    const { source, authority } = this.#ca;
    const { signer, chain, roots } = authority.bundle;
    return {
      source: source.kind,
      signer: signer.certificate.serial,
      signerNotAfter: new Date(signer.certificate.notAfterMs).toISOString(),
      chain: chain.length,
      roots: roots.map((root) => root.x509.fingerprint256),
    };
  }

  /** A task that ends before the stop is a defect: istiod must not go on half alive. */
  #run(name: string, body: (signal: AbortSignal) => Promise<void>): void {
    const { log } = this.#options;
    const guarded = async (): Promise<void> => {
      try {
        await body(this.#stop.signal);
      } catch (error) {
        log.error({ error, task: name }, "task failed; stopping");
        this.#isReady = false;
        this.#failed.resolve(error);
      }
    };
    this.#tasks.push(guarded());
  }

  readonly #failed = Promise.withResolvers<unknown>();

  /** Resolves with the error when a part has failed for good. */
  get failed(): Promise<unknown> {
    return this.#failed.promise;
  }
}

/** Version of the package this file is part of; a bundle has the file beside its folder too. */
export function packageVersion(): string {
  try {
    const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
    const { version }: { version?: unknown } = JSON.parse(text);
    return typeof version === "string" ? version : "unknown";
  } catch {
    return "unknown";
  }
}
