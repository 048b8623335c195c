// One captured pod: its namespace, listeners, tunnels and connections. Whatever was accepted or opened
// for the pod is in here, so that removing the pod ends all of it.
import { ACCEPT_BACKLOG, ACCEPT_PAUSE_MS, AcceptLoop } from "#lib/proxy/accept-loop.ts";
import { HbonePool } from "#lib/hbone/pool.ts";
import type { Tunnel } from "#lib/hbone/tunnel.ts";
import { HboneError } from "#lib/hbone/errors.ts";
import { parseIp, type SocketAddr } from "#lib/net/ip.ts";
import { PORT } from "#lib/net/ports.ts";
import { identityOf, type Workload } from "#lib/model/workload.ts";
import { closeHandingOver } from "#lib/sys/listener-handover.ts";
import { asNetnsFd, goHome, lingerIn, type NetnsFd } from "#lib/sys/netns.ts";
import * as raw from "#lib/sys/raw.ts";
import type { Timer } from "#lib/sys/reactor.ts";
import { listenTcp, setKeepalive, trySetOption } from "#lib/sys/socket.ts";
import { ENOENT, SysError } from "#lib/sys/errors.ts";
import type { Failure } from "#lib/proxy/telemetry/connection.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import type { DataPlaneContext } from "./data-plane-context.ts";
import type { PodInfo } from "./messages.ts";

type OnAccept = (pod: Pod, fd: number, peer: SocketAddr, listener: Listener) => void;

/** How long a connection waits for the record of its own pod. */
const WORKLOAD_WAIT_MS = 5_000;
const ANY_V6 = parseIp("::");
const ANY_V4 = parseIp("0.0.0.0");
const NOBODY: SocketAddr = { ip: ANY_V4, port: 0 };

/** One listening socket of a pod. Owns it. */
export class Listener {
  readonly fd: number;
  /** The kernel lets sockets of this pod use foreign source addresses. */
  isTransparent = false;
  readonly #loop: AcceptLoop;

  /** @throws {SysError} */
  constructor(pod: Pod, port: number, keepalive: boolean, onAccept: OnAccept) {
    const { config, reactor, telemetry } = pod.context;
    const direction = port === PORT.outbound ? "outbound" : "inbound";
    this.fd = listenTcp({
      ip: config.ipv6Enabled ? ANY_V6 : ANY_V4,
      port,
      mark: config.packetMark,
      reusePort: config.reusePort,
      transparent: config.origSrc !== false,
      onTransparent: (allowed) => {
        this.isTransparent = allowed;
      },
      backlog: ACCEPT_BACKLOG,
      netns: pod.netns,
    });
    // accepted sockets inherit these, which saves their system calls
    trySetOption(this.fd, "noDelay", 1);
    if (keepalive && config.keepalive !== null)
      setKeepalive(
        this.fd,
        config.keepalive.idle,
        config.keepalive.interval,
        config.keepalive.count,
      );
    if (config.origSrc === true && !this.isTransparent) {
      raw.close(this.fd);
      throw new SysError("setsockopt", 1, "IP_TRANSPARENT, which ENABLE_ORIG_SRC=true demands");
    }
    this.#loop = new AcceptLoop(reactor, this.fd, {
      onAccept: (accepted, peer) => onAccept(pod, accepted, peer, this),
      onPause: (error) =>
        telemetry.refuse(direction, NOBODY, null, {
          flag: "CONNECT",
          reason: "connect_failed",
          detail: `${error.message}; accepting again in ${ACCEPT_PAUSE_MS} ms`,
        }),
    });
  }

  /** Takes what waits in the backlog before it closes, which could reset them. */
  acceptWaiting(): void {
    this.#loop.acceptWaiting();
  }

  close(): void {
    this.#loop.close();
  }
}

export interface PodHandlers {
  readonly onOutbound: OnAccept;
  readonly onInboundHbone: OnAccept;
  readonly onInboundPlaintext: OnAccept;
}

export class Pod {
  readonly info: PodInfo;
  readonly netns: NetnsFd;
  readonly context: DataPlaneContext;
  readonly pool: HbonePool;
  readonly live: Set<Live> = new Set();
  readonly inboundTunnels: Set<Tunnel> = new Set();
  #listeners: Listener[] = [];
  readonly #waiting = new Set<() => void>();
  /** The record of this pod and its identity, until the tables change. */
  #workload: Workload | null = null;
  #identity = "";
  /** Names of the policies its record listed when it was last read. */
  #policies: readonly string[] = [];
  isGone = false;
  isDraining = false;

  constructor(context: DataPlaneContext, info: PodInfo, netnsFd: number) {
    this.context = context;
    this.info = info;
    this.netns = asNetnsFd(netnsFd);
    this.pool = new HbonePool({
      reactor: context.reactor,
      maxStreams: context.config.poolMaxStreams,
      idleMs: context.config.poolIdleMs,
    });
  }

  /** Opens the three listeners; all or none. @throws {SysError} */
  listen(handlers: PodHandlers): void {
    try {
      this.#listeners.push(new Listener(this, PORT.outbound, true, handlers.onOutbound));
      this.#listeners.push(
        new Listener(this, PORT.inboundPlaintext, true, handlers.onInboundPlaintext),
      );
      this.#listeners.push(new Listener(this, PORT.hbone, false, handlers.onInboundHbone));
    } catch (error) {
      this.closeListeners();
      throw error;
    }
  }

  /** The pod's record, as the tables have it now. */
  get workload(): Workload | null {
    if (this.#workload === null) {
      this.#workload = this.context.tables.localWorkload(this.info);
      this.#identity = this.#workload === null ? "" : identityOf(this.#workload);
      this.#policies = this.#workload?.authorizationPolicies ?? this.#policies;
    }
    return this.#workload;
  }

  /** The pod's SPIFFE identity; empty while its record is unknown. */
  get identity(): string {
    return this.workload === null ? "" : this.#identity;
  }

  /** Calls back with the record: at once, when it arrives, or with null after five seconds. */
  whenKnown(then: (workload: Workload | null) => void): void {
    const now = this.workload;
    if (now !== null) return then(now);
    let timer: Timer | null = null;
    const again = (): void => {
      const { workload } = this;
      if (workload === null && !this.isGone) return;
      this.#waiting.delete(again);
      timer?.cancel();
      then(workload);
    };
    timer = this.context.reactor.after(WORKLOAD_WAIT_MS, () => {
      this.#waiting.delete(again);
      then(this.workload);
    });
    this.#waiting.add(again);
  }

  /** The tables have changed. Whether other policies now select this pod, which open connections must hear of. */
  onTablesChanged(): boolean {
    const before = this.#policies;
    this.#workload = null;
    for (const again of [...this.#waiting]) again();
    if (this.live.size === 0) return false;
    const now = this.workload?.authorizationPolicies ?? before;
    return now.length !== before.length || now.some((name, i) => name !== before[i]);
  }

  /** Every open inbound connection is asked about again. */
  onPolicyChanged(): void {
    for (const live of [...this.live]) live.recheck();
  }

  /** This thread's next sockets belong to the pod's namespace. */
  enter(): void {
    // its namespace's descriptor is closed then, and the number may be another's
    if (this.isGone) throw new SysError("setns", ENOENT, "the pod is gone");
    lingerIn(this.netns);
  }

  closeListeners(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners = [];
  }

  /** Takes nothing new; what runs goes on. */
  drain(): void {
    for (const listener of this.#listeners) listener.acceptWaiting();
    this.isDraining = true;
    closeHandingOver(this.netns, () => this.closeListeners());
    this.pool.drain();
    for (const tunnel of [...this.inboundTunnels]) tunnel.drain();
  }

  /** Ends everything of the pod now. */
  dispose(failure: Failure): void {
    this.isGone = true;
    this.closeListeners();
    for (const live of [...this.live]) live.end(failure);
    this.pool[Symbol.dispose]();
    for (const tunnel of [...this.inboundTunnels])
      tunnel.close(new HboneError("CLOSING", failure.detail));
    this.onTablesChanged(); // those who wait for the record learn that there is none
    goHome(); // lets go of the namespace
  }
}
