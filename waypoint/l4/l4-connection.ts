// A bound stream at L4: policy, a backend, and bytes both ways. Through a tunnel under the waypoint's own identity where
// the backend has one, in plaintext where it is outside the mesh. A backend that cannot be reached is replaced by
// another one as long as no byte has been delivered. The decisions are lib/model/{rbac,waypoint}.ts.
// One piece, because every step may end the connection and then owes the same: answer, log line, books and budget.
import { HboneError } from "#lib/hbone/errors.ts";
import type { IdentityContexts } from "#lib/proxy/identities.ts";
import { CONNECT_TIMEOUT_MS } from "#lib/hbone/limits.ts";
import { SocketEnd } from "#lib/proxy/socket-end.ts";
import {
  recordIdentity,
  type ByteCounts,
  type Connection,
  type Failure,
} from "#lib/proxy/telemetry/connection.ts";
import {
  CLIENT_RESET,
  deniedHeader,
  failureOfConnect,
  failureOfEnd,
  failureOfStatus,
  failureOfTunnel,
  failureOfVerdict,
} from "#lib/proxy/telemetry/failures.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import type { Tunnel } from "#lib/hbone/tunnel.ts";
import type { HboneDecision, TcpDecision } from "#lib/model/outbound.ts";
import type { PolicyConn } from "#lib/model/policy-match.ts";
import { authorize, type Permit, type PolicySet, type Verdict } from "#lib/model/rbac.ts";
import { serviceKey } from "#lib/model/service.ts";
import { chooseBackend } from "#lib/model/waypoint.ts";
import { formatSocketAddr } from "#lib/net/ip.ts";
import type { Timer } from "#lib/sys/reactor.ts";
import { formatForwarded } from "#lib/wire/connect-headers.ts";
import type { HeaderList } from "#lib/wire/hpack-encoder.ts";
import { ERROR } from "#lib/wire/http2.ts";
import { isTraceparent, newTraceparent } from "#lib/wire/traceparent.ts";
import type { WaypointContext } from "../context.ts";
import type { ArrivedStream, StreamHandler } from "../listen/arrived-stream.ts";
import { connectPlain, dialBackend } from "./dial-backend.ts";
import { BackendStream, ClientStream, isOrderly, type RelayOwner } from "./relayed-streams.ts";

/** Backends tried for one connection. */
const MAX_ATTEMPTS = 3;
/** Clients give a CONNECT 15 s; they hear why it failed only from an answer before that. */
const ANSWER_WITHIN_MS = 14_000;

export function l4Handler(context: WaypointContext): StreamHandler {
  return (arrived) => new L4Connection(context, arrived).start();
}

class L4Connection implements Live, RelayOwner, ByteCounts {
  /** Once it is known which backend took it, or that none did. */
  connection: Connection | null = null;
  readonly #context: WaypointContext;
  readonly #arrived: ArrivedStream;
  readonly #client: ClientStream;
  readonly #conn: PolicyConn;
  readonly #arrivedAtMs: number;
  /** Forwarding demands one. */
  #permit: Permit | null = null;
  #allowedBy: string | null = null;
  #backend: BackendStream | SocketEnd | null = null;
  #decision: HboneDecision | TcpDecision | null = null;
  readonly #tried = new Set<string>();
  #attempts = 0;
  #lastFailure: Failure | null = null;
  #connectTimer: Timer | null = null;
  #answerTimer: Timer | null = null;
  #hasClientPassed = false;
  #hasBackendPassed = false;
  #isOver = false;

  constructor(context: WaypointContext, arrived: ArrivedStream) {
    this.#context = context;
    this.#arrived = arrived;
    this.#arrivedAtMs = context.reactor.nowMs;
    this.#client = new ClientStream(this);
    const { target } = arrived.arrival;
    this.#conn = {
      sourceIp: arrived.peer.ip,
      identity: arrived.identity,
      destinationIp: target.ip,
      destinationPort: target.port,
    };
  }

  get tunnel(): Tunnel | null {
    return this.#client.tunnel;
  }

  get bytesReceived(): number {
    return this.#client.received;
  }

  get bytesSent(): number {
    return this.#client.sent;
  }

  start(): void {
    const { tunnel, streamId, isEnded, identity, authority } = this.#arrived;
    const { live, reactor, dryRunLog } = this.#context;
    tunnel.bind(this.#client, streamId, isEnded);
    live.add(this); // before policy is asked: a change in between must find it
    const verdict = authorize(this.#policies, this.#conn);
    for (const note of verdict.notes)
      dryRunLog.info({ ...note, source: identity, target: authority }, "dry-run policy");
    if (verdict.kind !== "allow") return this.#deny(verdict, false);
    this.#permit = verdict.permit;
    this.#allowedBy = verdict.by;
    this.#answerTimer = reactor.after(ANSWER_WITHIN_MS, () => this.#giveUp(503, this.#tooLate));
    this.#connect();
  }

  recheck(): void {
    const verdict = authorize(this.#policies, this.#conn);
    if (verdict.kind !== "allow") return this.#deny(verdict, true);
    this.#permit = verdict.permit;
    this.#allowedBy = verdict.by;
    if (this.connection !== null) this.connection.policy = verdict.by;
  }

  end(failure: Failure): void {
    this.#over(failure, ERROR.CANCEL);
  }

  // --- a backend

  #connect(): void {
    const { tables, own, random, resolve, reactor } = this.#context;
    const { arrival, self } = this.#arrived;
    this.#attempts++;
    const choice = chooseBackend(tables, {
      self: own.current ?? self,
      arrival,
      tried: this.#tried,
      random,
    });
    switch (choice.kind) {
      case "none": {
        const { reason, detail } = choice;
        return this.#giveUp(503, this.#lastFailure ?? { flag: "CONNECT", reason, detail });
      }
      case "resolve":
        void resolve(choice.hostname, choice.prefer).then((ip) => {
          // in a turn of the loop, where output is flushed
          reactor.again({
            isQueued: false,
            onTurn: () => {
              if (this.#isOver) return;
              if (ip !== null) return this.#open(choice.complete(ip));
              this.#giveUp(503, {
                flag: "CONNECT",
                reason: "no_address",
                detail: `${choice.hostname} cannot be resolved`,
              });
            },
          });
        });
        return;
      case "hbone":
      case "tcp":
        return this.#open(choice);
      default:
        return choice satisfies never;
    }
  }

  #open(decision: HboneDecision | TcpDecision): void {
    this.#decision = decision;
    if (this.#permit === null) return this.#giveUp(503, NO_PERMIT);
    if (decision.kind === "tcp") return this.#openPlain(decision);
    const { identities, config, reactor } = this.#context;
    identities.use(config.identity, reactor.nowMs, (contexts, reason) => {
      if (this.#isOver) return;
      if (contexts !== null) return this.#openTunnel(decision, contexts);
      this.#giveUp(503, {
        flag: "IDENTITY_ERROR",
        reason: "identity",
        detail: `no certificate for ${config.identity}: ${reason}`,
      });
    });
  }

  #openTunnel(decision: HboneDecision, contexts: IdentityContexts): void {
    const { pool, config } = this.#context;
    const stream = new BackendStream(this);
    this.#backend = stream;
    const { nextHop, expectedIdentities: identities } = decision;
    const key = { nextHop, sourceIp: config.pod.ip, identities };
    try {
      const dial = dialBackend.bind(null, this.#context, contexts, decision);
      pool.open(key, dial, stream, this.#headers(decision));
    } catch (error) {
      if (!(error instanceof HboneError)) throw error;
      this.#attemptFailed(failureOfTunnel(error), error.code === "REFUSED");
    }
  }

  #openPlain(decision: TcpDecision): void {
    const { reactor } = this.#context;
    const target = formatSocketAddr(decision.address);
    const socket = connectPlain(this.#context, decision.address);
    if ("errno" in socket)
      return this.#attemptFailed(failureOfConnect(socket.errno, target), false);
    const failed = (errno: number): void => {
      end.close(true);
      this.#attemptFailed(failureOfConnect(errno, target), false);
    };
    const end = new SocketEnd(reactor, socket.fd, {
      onConnected: (errno) => (errno === 0 ? this.#established() : failed(errno)),
      onPassed: () => this.onBackendPassed(),
      onDead: () => this.#over(null, ERROR.NO_ERROR),
    });
    this.#backend = end;
    this.#connectTimer = reactor.after(CONNECT_TIMEOUT_MS, () => failed(-1));
  }

  /** The client's own words about itself do not travel: the backend sees this waypoint. `forwarded` is telemetry. */
  #headers({ authority, service }: HboneDecision): HeaderList {
    const { peer, traceparent } = this.#arrived;
    return [
      [":method", "CONNECT"],
      [":authority", authority],
      ["forwarded", formatForwarded(peer, service?.hostname ?? null)],
      [
        "traceparent",
        traceparent !== null && isTraceparent(traceparent)
          ? traceparent
          : newTraceparent(this.#context.randomUint32),
      ],
    ];
  }

  /** @param isRefused  nothing is wrong with the backend: another tunnel to it may do */
  #attemptFailed(failure: Failure, isRefused: boolean): void {
    this.#connectTimer?.cancel();
    this.#connectTimer = null;
    this.#backend = null;
    this.#lastFailure = failure;
    const uid = this.#decision?.destination?.uid;
    const isOnly = this.#arrived.arrival.service === null || uid === undefined;
    if (this.#attempts >= MAX_ATTEMPTS || (isOnly && !isRefused)) return this.#giveUp(503, failure);
    if (!isRefused && uid !== undefined) this.#tried.add(uid);
    this.#connect();
  }

  #established(): void {
    this.#connectTimer?.cancel();
    this.#connectTimer = null;
    this.#answerTimer?.cancel();
    this.#answerTimer = null;
    const backend = this.#backend;
    if (backend === null || this.#permit === null) return this.#giveUp(503, NO_PERMIT);
    const c = this.#openBooks();
    c.countedBy(this);
    c.verdict = "allowed";
    c.policy = this.#allowedBy;
    const client = this.#client;
    client.tunnel?.respond(client, 200, ACCEPT);
    if (backend instanceof SocketEnd) return backend.join(client);
    client.join(backend, backend);
    backend.join(client, client);
  }

  // --- what the streams tell

  onBackendAnswer(stream: BackendStream, status: number): void {
    if (this.#isOver || stream !== this.#backend) return;
    if (status === 200) return this.#established();
    const failure = failureOfStatus(status, this.#where, stream.deniedBy);
    // the destination has decided: another endpoint of the service has the same policy, or should have
    if (status === 401) return this.#giveUp(401, failure, stream.deniedBy);
    this.#attemptFailed(failure, false);
  }

  onClientPassed(): void {
    this.#hasClientPassed = true;
    this.#finishIfDone();
  }

  onBackendPassed(): void {
    this.#hasBackendPassed = true;
    this.#finishIfDone();
  }

  onClientGone(code: number, error: HboneError | null): void {
    if (isOrderly(code, error))
      return this.#over(this.#hasClientPassed ? null : CLIENT_RESET, code);
    this.#over(failureOfEnd({ kind: "reset", code, error }), ERROR.CANCEL);
  }

  onBackendGone(stream: BackendStream, code: number, error: HboneError | null): void {
    if (this.#isOver || stream !== this.#backend) return;
    if (this.connection === null)
      return this.#attemptFailed(
        failureOfEnd({ kind: "reset", code, error }),
        error?.code === "REFUSED",
      );
    if (isOrderly(code, error)) return this.#over(null, code);
    this.#over(failureOfEnd({ kind: "reset", code, error }), ERROR.CANCEL);
  }

  #finishIfDone(): void {
    if (this.#hasClientPassed && this.#hasBackendPassed) this.#over(null, ERROR.NO_ERROR);
  }

  // --- ends

  #deny(verdict: Exclude<Verdict, { kind: "allow" }>, isChange: boolean): void {
    const failure = failureOfVerdict(verdict, this.#policies, this.#conn, isChange);
    const c = this.connection ?? this.#openBooks();
    c.verdict = "denied";
    c.policy = failure.policy ?? null;
    if (!this.#client.isEstablished) this.#answer(401, deniedHeader(failure));
    this.#over(failure, ERROR.CANCEL);
  }

  /** No backend took it: the client gets a status. @param deniedBy the destination's own `x-ambit-denied` */
  #giveUp(status: 401 | 503, failure: Failure, deniedBy: string | null = null): void {
    if (this.#isOver) return;
    if (this.connection === null) this.#openBooks();
    if (!this.#client.isEstablished) this.#answer(status, deniedBy);
    this.#over(failure, ERROR.CANCEL);
  }

  #answer(status: 401 | 503, deniedBy: string | null): void {
    const headers: [string, string][] = [[":status", String(status)]];
    if (deniedBy !== null) headers.push(["x-ambit-denied", deniedBy]);
    this.#client.tunnel?.respond(this.#client, status, headers);
  }

  /** @param code  for a stream that has not ended by itself */
  #over(failure: Failure | null, code: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#connectTimer?.cancel();
    this.#answerTimer?.cancel();
    const c = this.connection ?? this.#openBooks();
    this.#client.abort(code);
    if (this.#backend instanceof SocketEnd) this.#backend.close(failure !== null);
    else this.#backend?.abort(code);
    this.#context.live.delete(this);
    this.#context.telemetry.close(c, failure);
  }

  /** Counted under the backend that was chosen last; under none when policy said no before. */
  #openBooks(): Connection {
    const { peer, local, identity, authority, arrival, self } = this.#arrived;
    const { tables, telemetry } = this.#context;
    const decision = this.#decision;
    const sourceWorkload = tables.findWorkload(self.network, peer.ip);
    const destinationWorkload = decision?.destination ?? null;
    const isHbone = decision?.kind === "hbone";
    const actual = decision === null ? local : isHbone ? decision.nextHop : decision.address;
    this.connection = telemetry.open(
      {
        reporter: "waypoint",
        source: sourceWorkload,
        sourceIdentity: identity,
        destination: destinationWorkload,
        service: arrival.service,
        isMutualTls: true,
      },
      {
        direction: "inbound",
        protocol: "HBONE",
        source: peer,
        sourceWorkload,
        sourceIdentity: identity,
        destination: actual,
        original: authority,
        destinationWorkload,
        destinationIdentity: isHbone ? recordIdentity(destinationWorkload) : null,
        service: arrival.service,
        via: null,
      },
      this.#arrivedAtMs,
    );
    return this.connection;
  }

  get #policies(): PolicySet {
    const { service } = this.#arrived.arrival;
    return this.#context.policies.setFor(service === null ? null : serviceKey(service));
  }

  get #where(): string {
    const decision = this.#decision;
    return decision?.kind === "hbone" ? decision.authority : "the backend";
  }

  get #tooLate(): Failure {
    return (
      this.#lastFailure ?? {
        flag: "CONNECT",
        reason: "connect_timeout",
        detail: `${this.#where} did not answer within ${ANSWER_WITHIN_MS / 1_000} s`,
      }
    );
  }
}

const ACCEPT: HeaderList = [[":status", "200"]];

const NO_PERMIT: Failure = {
  flag: "DENY",
  reason: "policy_no_allow_match",
  detail: "no permit to forward",
};
