// Starts data-plane workers: one thread each, woken through an eventfd.
import { randomFillSync } from "node:crypto";
import { Worker } from "node:worker_threads";
import { createEventFd, signalEventFd } from "#lib/sys/eventfd.ts";
import { dataPlaneAccessLevel } from "#lib/proxy/telemetry/access-lines.ts";
import type { Level } from "#lib/obs/log-filter.ts";
import type { Config } from "../config.ts";
import type { ZtunnelError } from "../errors.ts";
import type { WorkerConfig } from "../proxy/worker-config.ts";
import { WorkerLink, type WorkerMessage } from "./worker-link.ts";

/**
 * Small young generations keep an idle worker small; the old one holds the tables of the mesh, so it is
 * bounded only against running away. Bytes of connections live outside the JavaScript heap.
 */
const LIMITS = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 2_048, stackSizeMb: 2 };

export interface WorkerSpec {
  readonly module: URL;
  readonly config: Config;
  readonly accessLevel: Level;
  readonly index: number;
}

export function spawnWorker(
  { module, config, accessLevel, index }: WorkerSpec,
  onMessage: (message: WorkerMessage, link: WorkerLink) => void,
  onEnd: (error: ZtunnelError, link: WorkerLink) => void,
): WorkerLink {
  // Open for the life of the process: a worker may look at it until the very end.
  const wakeFd = createEventFd();
  const worker = new Worker(module, {
    name: `data-plane-${index}`,
    workerData: workerConfig(config, accessLevel, index, wakeFd),
    resourceLimits: LIMITS,
  });
  return new WorkerLink(index, worker, () => signalEventFd(wakeFd), onMessage, onEnd);
}

function workerConfig(
  config: Config,
  accessLevel: Level,
  index: number,
  wakeFd: number,
): WorkerConfig {
  const { keepalive } = config;
  const seconds = (ms: number): number => Math.max(1, Math.round(ms / 1_000));
  const [a = 0, b = 0, c = 0, d = 0] = randomFillSync(new Uint32Array(4));
  return {
    index,
    seed: [a, b, c, d],
    wakeFd,
    nodeName: config.nodeName,
    network: config.network,
    packetMark: config.packetMark,
    reusePort: config.inpodPortReuse,
    ipv6Enabled: config.ipv6Enabled,
    origSrc: config.origSrc,
    localhostAppTunnel: config.localhostAppTunnel,
    responseBaggage: config.responseBaggage,
    poolMaxStreams: config.pool.maxStreams,
    poolIdleMs: config.pool.unusedReleaseMs,
    keepalive: keepalive.enabled
      ? {
          idle: seconds(keepalive.timeMs),
          interval: seconds(keepalive.intervalMs),
          count: keepalive.retries,
        }
      : null,
    logFormat: config.logFormat,
    accessLog: dataPlaneAccessLevel(accessLevel),
  };
}
