// Opens and closes the books of connections: series, access log, events, denial counts.
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import type { Workload } from "#lib/model/workload.ts";
import type { Reactor } from "#lib/sys/reactor.ts";
import type { HandshakeObserver } from "#lib/hbone/tunnel.ts";
import type { AccessLog } from "./access-log.ts";
import {
  Connection,
  type ConnectionInit,
  type Failure,
  isFault,
  splitPolicy,
} from "./connection.ts";
import { EventRing, type EventSource } from "./event-ring.ts";
import { HandshakeTimes } from "./handshake-times.ts";
import { LabelledCounter } from "./labelled-counter.ts";
import type { MetricsSnapshot } from "./snapshot.ts";
import { type SeriesKey, sourceLabels, TrafficTable } from "./traffic-labels.ts";

export class Telemetry {
  readonly traffic = new TrafficTable();
  readonly events = new EventRing();
  readonly log: AccessLog;
  readonly denials = new LabelledCounter();
  readonly onDemandDns = new LabelledCounter();
  readonly handshakes = new HandshakeTimes();
  readonly onHandshake: HandshakeObserver = (role, outcome, ms) =>
    this.handshakes.observe(role, outcome, ms);
  /** Accepted sockets: applications' (source), tunnels' and plaintext (destination). */
  readonly socketsOpen = { source: 0, destination: 0 };
  readonly #reactor: Reactor;

  constructor(reactor: Reactor, log: AccessLog) {
    this.#reactor = reactor;
    this.log = log;
  }

  /** What was counted so far. @param tunnelsActive  of the whole data plane */
  snapshot(tunnelsActive: number): MetricsSnapshot {
    return {
      traffic: this.traffic.snapshot(),
      socketsOpen: { ...this.socketsOpen },
      denials: this.denials.snapshot(),
      onDemandDns: this.onDemandDns.snapshot(),
      handshakes: this.handshakes.snapshot(),
      tunnelsActive,
      eventsLost: this.events.lost,
    };
  }

  /**
   * Counts a connection as opened: its telemetry is complete, policy and connect come after.
   * @param openedAtMs  earlier than now where the destination had to be found first
   */
  open(key: SeriesKey, init: ConnectionInit, openedAtMs = this.#reactor.nowMs): Connection {
    const series = this.traffic.seriesFor(key);
    series.opened++;
    const now = this.#reactor.nowMs;
    const c = new Connection(init, series, openedAtMs);
    this.log.opened(c, now);
    this.events.push(new ConnectionEvent(c, "open", now, null));
    return c;
  }

  /** Exactly once per opened connection. @param failure null when both sides finished */
  close(c: Connection, failure: Failure | null): void {
    const now = this.#reactor.nowMs;
    c.settle();
    const flagged = failure === null ? c.series : this.traffic.withFlag(c.series, failure.flag);
    flagged.closed++;
    if (failure !== null && failure.flag !== "-") flagged.failed++;
    if (failure?.flag === "DENY") this.#countDenial(c, failure);
    this.log.closed(c, failure, now);
    const kind = !isFault(failure) ? "close" : failure.flag === "DENY" ? "deny" : "error";
    this.events.push(new ConnectionEvent(c, kind, now, failure));
  }

  /** A connection refused before it could be opened: no traffic counter moves. */
  refuse(
    direction: "inbound" | "outbound",
    source: SocketAddr,
    destination: SocketAddr | null,
    failure: Failure,
  ): void {
    const now = this.#reactor.nowMs;
    this.log.denied(direction, source, destination, failure, now);
    this.events.push({
      view: (seq) => ({
        seq,
        time: new Date(now).toISOString(),
        event: "error",
        direction,
        source: { address: formatSocketAddr(source) },
        destination: { address: destination === null ? "" : formatSocketAddr(destination) },
        reason: failure.reason,
        detail: failure.detail,
        flags: failure.flag,
      }),
    });
  }

  /** A destination known by name only is looked up for `source`. */
  lookedUp(source: Workload, hostname: string): void {
    this.onDemandDns.count([...sourceLabels(source), hostname]);
  }

  #countDenial(c: Connection, failure: Failure): void {
    const policy = splitPolicy(failure.policy ?? null);
    const labels = [
      policy?.name ?? "none",
      policy?.namespace ?? c.init.destinationWorkload?.namespace ?? "unknown",
      failure.reason,
      c.init.sourceIdentity ?? "unknown",
      c.init.destinationWorkload?.workloadName ?? "unknown",
    ];
    this.denials.count(labels);
  }
}

class ConnectionEvent implements EventSource {
  readonly #connection: Connection;
  readonly #event: TunnelEvent["event"];
  readonly #atMs: number;
  readonly #failure: Failure | null;

  constructor(c: Connection, event: TunnelEvent["event"], atMs: number, failure: Failure | null) {
    this.#connection = c;
    this.#event = event;
    this.#atMs = atMs;
    this.#failure = failure;
  }

  view(seq: number): TunnelEvent {
    const c = this.#connection;
    const failure = this.#failure;
    const policy = splitPolicy(failure?.policy ?? null);
    const base = {
      seq,
      time: new Date(this.#atMs).toISOString(),
      event: this.#event,
      direction: c.init.direction,
      source: c.sourceView(),
      destination: c.destinationView(),
    };
    if (this.#event === "open") return base;
    return {
      ...base,
      ...(failure === null ? {} : { reason: failure.reason, detail: failure.detail }),
      ...(policy === null ? {} : { policy }),
      flags: failure?.flag ?? "-",
      durationMs: Math.round(this.#atMs - c.openedAtMs),
      rxBytes: c.bytesReceived,
      txBytes: c.bytesSent,
    };
  }
}
