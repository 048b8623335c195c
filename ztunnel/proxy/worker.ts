// A data-plane worker: the thread that moves bytes. It sleeps in epoll_wait; the main thread wakes it
// through an eventfd and its messages are taken then.
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { PeerBook } from "#lib/hbone/peer-book.ts";
import { MeshTables } from "#lib/model/tables.ts";
import { drainEventFd } from "#lib/sys/eventfd.ts";
import { SysError } from "#lib/sys/errors.ts";
import { EPOLLIN, Reactor } from "#lib/sys/reactor.ts";
import { seededRandom } from "#lib/wire/traceparent.ts";
import { AccessLog } from "#lib/proxy/telemetry/access-log.ts";
import { Identities } from "#lib/proxy/identities.ts";
import { Telemetry } from "#lib/proxy/telemetry/telemetry.ts";
import type { DataPlaneContext } from "./data-plane-context.ts";
import { IdleTrim } from "./idle-trim.ts";
import { onInboundHbone } from "./inbound.ts";
import type { FromWorker, ToWorker } from "./messages.ts";
import { onOutbound } from "./outbound.ts";
import { onInboundPlaintext } from "./passthrough.ts";
import { Pod } from "./pod.ts";
import { connectionsOf, metricsOf, tunnelsOf } from "./snapshots.ts";
import type { WorkerConfig } from "./worker-config.ts";

const LOG_FLUSH_MS = 100;
const HANDLERS = { onOutbound, onInboundHbone, onInboundPlaintext } as const;

class DataPlaneWorker {
  readonly #reactor = new Reactor();
  readonly #context: DataPlaneContext;
  readonly #pods = new Map<string, Pod>();
  readonly #resolving = new Map<number, (ip: string | null) => void>();
  #lastResolve = 0;
  #isDraining = false;

  constructor(config: WorkerConfig) {
    const randomUint32 = seededRandom(config.seed);
    const log = new AccessLog({
      level: config.accessLog,
      format: config.logFormat,
      emit: (lines) =>
        parentPort?.postMessage({ type: "log", lines } satisfies FromWorker, [lines.buffer]),
    });
    this.#context = {
      config,
      reactor: this.#reactor,
      tables: new MeshTables({ node: config.nodeName === "" ? null : config.nodeName }),
      identities: new Identities((identity) => this.#send({ type: "need-certificate", identity })),
      telemetry: new Telemetry(this.#reactor, log),
      peers: new PeerBook(),
      random: () => randomUint32() / 2 ** 32,
      randomUint32,
      resolve: (hostname, prefer, then) => {
        const id = ++this.#lastResolve;
        this.#resolving.set(id, then);
        this.#send({ type: "resolve", id, hostname, prefer });
      },
    };
  }

  run(): void {
    const { wakeFd } = this.#context.config;
    this.#reactor.add(wakeFd, EPOLLIN, { onReady: () => this.#onWake(wakeFd) });
    this.#send({ type: "ready" });
    this.#onWake(wakeFd);
    new IdleTrim(this.#reactor);
    this.#reactor.beforeSleep = () => this.#scheduleLogFlush();
    this.#reactor.run();
  }

  #isFlushScheduled = false;
  #scheduleLogFlush(): void {
    if (this.#isFlushScheduled || !this.#context.telemetry.log.hasLines) return;
    this.#isFlushScheduled = true;
    this.#reactor.after(LOG_FLUSH_MS, () => {
      this.#isFlushScheduled = false;
      this.#context.telemetry.log.flush();
    });
  }

  #onWake(wakeFd: number): void {
    drainEventFd(wakeFd);
    if (parentPort === null) return;
    for (;;) {
      const got = receiveMessageOnPort(parentPort) as { message: ToWorker } | undefined;
      if (got === undefined) return;
      this.#onMessage(got.message);
    }
  }

  #onMessage(message: ToWorker): void {
    switch (message.type) {
      case "tables":
        return this.#onTables(message.ops);
      case "pod-add":
        return this.#addPod(message);
      case "pod-remove":
        return this.#removePod(message.uid);
      case "certificate":
        return this.#context.identities.set(message.material);
      case "certificate-failed":
        return this.#context.identities.fail(message.identity, message.reason);
      case "snapshot":
        return this.#snapshot(message);
      case "log-level":
        this.#context.telemetry.log.level = message.access;
        return;
      case "resolved": {
        const then = this.#resolving.get(message.id);
        this.#resolving.delete(message.id);
        return then?.(message.ip);
      }
      case "drain":
        return this.#drain(message.deadlineMs);
      default:
        return message satisfies never;
    }
  }

  #onTables(ops: Extract<ToWorker, { type: "tables" }>["ops"]): void {
    const { tables } = this.#context;
    const before = tables.policyGeneration;
    tables.apply(ops);
    for (const pod of this.#pods.values()) {
      const isSelectedAnew = pod.onTablesChanged();
      if (isSelectedAnew || tables.policyGeneration !== before) pod.onPolicyChanged();
    }
  }

  #addPod({ pod: info, netnsFd }: Extract<ToWorker, { type: "pod-add" }>): void {
    const before = this.#pods.get(info.uid);
    if (before !== undefined) this.#removePod(info.uid);
    const pod = new Pod(this.#context, info, netnsFd);
    try {
      if (!this.#isDraining) pod.listen(HANDLERS);
      this.#pods.set(info.uid, pod);
      this.#send({ type: "pod-added", uid: info.uid, error: null });
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#send({ type: "pod-added", uid: info.uid, error: error.message });
    }
  }

  #removePod(uid: string): void {
    const pod = this.#pods.get(uid);
    this.#pods.delete(uid);
    pod?.dispose({ flag: "-", reason: "drained", detail: "the pod left the mesh" });
    this.#send({ type: "pod-removed", uid });
  }

  #snapshot(message: Extract<ToWorker, { type: "snapshot" }>): void {
    const pods = [...this.#pods.values()];
    const { telemetry, config } = this.#context;
    const base = { type: "snapshot", id: message.id } as const;
    switch (message.of) {
      case "tunnels":
        return this.#send({
          ...base,
          tunnels: tunnelsOf(pods, config.nodeName, this.#reactor.nowMs),
        });
      case "connections":
        return this.#send({ ...base, connections: connectionsOf(pods) });
      case "metrics":
        return this.#send({ ...base, metrics: metricsOf(pods, telemetry) });
      case "events":
        return this.#send({ ...base, events: telemetry.events.since(message.sinceSeq ?? 0) });
      default:
        return message.of satisfies never;
    }
  }

  #drain(deadlineMs: number): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    for (const pod of this.#pods.values()) pod.drain();
    const startedMs = Date.now();
    const check = (): void => {
      // a tunnel without streams goes once its peer knows; until then the peer may still open one
      const isOver = [...this.#pods.values()].every(
        (p) => p.live.size === 0 && p.inboundTunnels.size === 0,
      );
      if (!isOver && Date.now() - startedMs < deadlineMs)
        return void this.#reactor.after(100, check);
      for (const pod of this.#pods.values())
        pod.dispose({ flag: "-", reason: "drained", detail: "cut at the drain deadline" });
      this.#context.telemetry.log.flush();
      this.#send({ type: "drained" });
    };
    check();
  }

  #send(message: FromWorker): void {
    parentPort?.postMessage(message);
  }
}

try {
  new DataPlaneWorker(workerData as WorkerConfig).run();
} catch (error) {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  parentPort?.postMessage({ type: "fatal", error: text } satisfies FromWorker);
}
