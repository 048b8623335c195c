// The parts of the main thread and how they hear of each other: tables feed the workers, identities of
// local workloads feed the certificates, pods of the node agent get listeners and a DNS server.
import { systemClock } from "#lib/base/clock.ts";
import { CaClient } from "#lib/grpc/ca-client.ts";
import { connectionSettings } from "#lib/grpc/control-plane.ts";
import { MeshTables } from "#lib/model/tables.ts";
import type { LogScopes } from "#lib/obs/log-scopes.ts";
import type { NetnsFd } from "#lib/sys/netns.ts";
import { mallocTrim } from "#lib/sys/raw.ts";
import { dataPlaneAccessLevel, filterAccessLines } from "#lib/proxy/telemetry/access-lines.ts";
import { OnDemandDns } from "#lib/proxy/on-demand-dns.ts";
import type { CertificateView } from "#lib/pki/certificate-entry.ts";
import { CertificateManager } from "#lib/pki/certificate-manager.ts";
import { fetchFrom } from "#lib/pki/signer.ts";
import { XdsCounters } from "#lib/xds/xds-counters.ts";
import type { Config } from "./config.ts";
import { DnsCounters } from "./dns/dns-counters.ts";
import { Forwarder } from "./dns/forwarder.ts";
import { DnsHandler } from "./dns/handler.ts";
import { PodDns } from "./dns/pod-dns.ts";
import { resolvConfReader } from "./dns/resolv-conf.ts";
import { Pods } from "./inpod/pods.ts";
import { ZdsClient } from "./inpod/zds-client.ts";
import type { PodInfo } from "./proxy/messages.ts";
import { DataPlane } from "./state/data-plane.ts";
import { SettleTrim } from "./state/settle-trim.ts";
import { spawnWorker } from "./state/spawn-worker.ts";
import { TableFeed } from "./state/table-feed.ts";
import type { WorkerLink } from "./state/worker-link.ts";
import { WorkloadWatch } from "./state/workload-watch.ts";
import { Xds } from "./state/xds.ts";
import { trimHeap } from "./trim-heap.ts";

export interface ControlSideOptions {
  readonly config: Config;
  readonly scopes: LogScopes;
  /** Module of the data-plane workers. */
  readonly worker: URL;
  /** Finished access-log lines. */
  readonly writeLines: (text: string | Uint8Array) => void;
  /** The agent's snapshot has been taken in, or the agent is gone. */
  readonly onAgentLive: (isLive: boolean) => void;
  /** A pod started, failed or went. */
  readonly onPodsChanged: () => void;
  /** The process must end. */
  readonly onFatal: (error: unknown) => void;
}

/** How long the pods may take to close at the end. */
const STOP_PODS_MS = 2_000;

/** Owns the workers, the pods and the connections to control plane and agent. */
export class ControlSide implements AsyncDisposable {
  readonly tables: MeshTables;
  readonly dataPlane: DataPlane;
  readonly certificates: CertificateManager;
  readonly pods: Pods;
  readonly xds: Xds;
  readonly zds: ZdsClient;
  readonly dnsCounters = new DnsCounters();
  readonly xdsCounters = new XdsCounters();
  readonly onDemandDns: OnDemandDns;
  readonly #options: ControlSideOptions;
  readonly #ca: CaClient;
  readonly #watch: WorkloadWatch;
  readonly #resolvConf = resolvConfReader();

  constructor(options: ControlSideOptions) {
    const { config, scopes, onFatal } = options;
    const { random } = Math;
    const clock = systemClock;
    this.#options = options;
    this.tables = new MeshTables({ node: config.nodeName === "" ? null : config.nodeName });
    this.#watch = new WorkloadWatch(this.tables);
    this.onDemandDns = new OnDemandDns({ ipv6Enabled: config.ipv6Enabled, random });
    this.dataPlane = this.#startWorkers();
    this.#ca = new CaClient(connectionSettings(config.ca, config));
    this.certificates = new CertificateManager({
      fetch: fetchFrom(this.#ca, config.secretTtlMs),
      onAvailable: (material) => this.dataPlane.setCertificate(material),
      onUnavailable: (identity, reason) => this.dataPlane.failCertificate(identity, reason),
      log: scopes.logger("identity"),
      clock,
      random,
    });
    this.pods = new Pods({
      open: (pod, netns) => this.dataPlane.addPod(pod, netns),
      close: (uid) => this.dataPlane.removePod(uid),
      serveDns: (pod, netns) => (config.dnsCapture ? this.#serveDns(pod, netns) : null),
      onChange: options.onPodsChanged,
      log: scopes.logger("inpod"),
      clock,
    });
    const trim = new SettleTrim(clock, trimProcess);
    this.xds = new Xds({
      config,
      tables: this.tables,
      feed: new TableFeed(this.tables, (message) => this.dataPlane.broadcast(message)),
      onIdentities: ({ appeared, gone }) => {
        for (const identity of appeared) this.certificates.prefetch(identity);
        for (const identity of gone) this.certificates.forget(identity);
      },
      onAddresses: () => this.#watch.notify(),
      onResponse: ({ typeUrl, resourceBytes }) => {
        this.xdsCounters.received(typeUrl, resourceBytes);
        trim.received(resourceBytes);
      },
      onTerminated: (reason) => this.xdsCounters.terminated(reason),
      log: scopes.logger("xds"),
      clock,
    });
    this.zds = new ZdsClient({
      path: config.inpodUds,
      pods: this.pods,
      onLive: options.onAgentLive,
      log: scopes.logger("inpod"),
      clock,
      random,
    });
    scopes.onChange(() => {
      const access = dataPlaneAccessLevel(scopes.level("access"));
      this.dataPlane.broadcast({ type: "log-level", access });
    });
    this.dataPlane.ready().catch(onFatal);
    // the end of a process waits for its threads, and a worker asleep in epoll_wait hears of no end
    process.once("exit", () => void this.dataPlane[Symbol.asyncDispose]());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const end = new AbortController();
    // A worker that hangs must not keep the process from ending.
    await Promise.race([this.pods.stopAll(), systemClock.sleep(STOP_PODS_MS, end.signal)]);
    end.abort();
    await this.dataPlane[Symbol.asyncDispose]();
    this.#ca[Symbol.dispose]();
  }

  #startWorkers(): DataPlane {
    const { config, scopes, worker, writeLines, onFatal } = this.#options;
    return new DataPlane(
      config.workerThreads,
      (index, onMessage, onEnd) =>
        spawnWorker(
          { module: worker, config, accessLevel: scopes.level("access"), index },
          onMessage,
          onEnd,
        ),
      {
        onNeedCertificate: (identity, worker) =>
          answerNeed(this.certificates.need(identity), worker),
        onResolve: ({ id, hostname, prefer }, worker) =>
          void this.onDemandDns
            .lookup(hostname, prefer)
            .then((ip) => worker.send({ type: "resolved", id, ip })),
        onLog: (lines) => writeLines(filterAccessLines(lines, scopes.level("access"))),
        onFatal,
      },
    );
  }

  #serveDns(pod: PodInfo, netns: NetnsFd): PodDns {
    const { config, scopes } = this.#options;
    const { packetMark: mark, ipv6Enabled } = config;
    const handler = new DnsHandler({
      tables: this.tables,
      settings: {
        clusterDomain: config.clusterDomain,
        preferredNamespace: config.preferredServiceNamespace,
        ipv6Enabled,
      },
      client: (signal) => this.#watch.find(pod, signal),
      forwarder: new Forwarder({ netns, mark, resolvConf: this.#resolvConf }),
      counters: this.dnsCounters,
      log: scopes.logger("dns"),
      random: Math.random,
      elapsed: () => performance.now(),
    });
    return PodDns.listen({ handler, netns, mark, reusePort: config.inpodPortReuse, ipv6Enabled });
  }
}

/** This thread's heap, and what all threads have left to the allocator. */
function trimProcess(): void {
  trimHeap();
  mallocTrim(0);
}

/** What is known now goes to the worker that asked; a first fetch under way answers all workers when it ends. */
function answerNeed(view: CertificateView, worker: WorkerLink): void {
  const { identity, state, material, error } = view;
  if (material !== null) worker.send({ type: "certificate", material });
  else if (state === "unavailable")
    worker.send({ type: "certificate-failed", identity, reason: error ?? "no certificate" });
}
