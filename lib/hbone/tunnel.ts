// One HBONE connection: HTTP/2 CONNECT streams in mutual TLS on a non-blocking socket (RFC 9113; only
// what CONNECT needs). This file is one piece because framing, flow control and the socket share the
// two buffers: payload is read straight behind its frame header and written straight from where TLS
// put it. Header compression, limits, budgets and buffers live beside it.
//
//   write buffer   [ sent | frames waiting … | free ]
//                         #start            #end
import { ConnectRequestFields, ConnectResponseFields } from "#lib/wire/connect-message.ts";
import { HpackError } from "#lib/wire/errors.ts";
import {
  checkFrame,
  checkSetting,
  ERROR,
  FLAG,
  FRAME,
  DEFAULT_WINDOW_BYTES as DEFAULT_WINDOW,
  FRAME_HEADER_BYTES as HEADER,
  MAX_WINDOW_BYTES as MAX_WINDOW,
  PREFACE,
  SETTING,
} from "#lib/wire/http2.ts";
import { HpackDecoder } from "#lib/wire/hpack-decoder.ts";
import { HpackEncoder, type HeaderList } from "#lib/wire/hpack-encoder.ts";
import type { NativeBuffer } from "#lib/sys/memory.ts";
import type { Ip } from "#lib/net/ip.ts";
import * as raw from "#lib/sys/raw.ts";
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  type FdHandler,
  type Flushable,
  type Reactor,
  type Task,
  type Timer,
} from "#lib/sys/reactor.ts";
import { socketError } from "#lib/sys/socket.ts";
import { errnoName, SysError } from "#lib/sys/errors.ts";
import {
  type PeerCheck,
  type TlsContext,
  TlsError,
  type TlsSession,
  WOULD_BLOCK,
} from "#lib/sys/tls.ts";
import type { Budget } from "./budget.ts";
import { giveWriteBuffer, readScratch, READ_SIZE, takeWriteBuffer, WRITE_SIZE } from "./buffers.ts";
import { h2ErrorName, HboneError } from "./errors.ts";
import * as limit from "./limits.ts";
import { LingeringClose } from "./lingering-close.ts";
import { PeerAccount } from "./peer-account.ts";
import type { PeerBook } from "./peer-book.ts";
import type { HboneStream } from "./stream.ts";

/** Left free by DATA, so that WINDOW_UPDATE, PING and headers always find room. */
const CONTROL_ROOM = 32_768;
/** Below this much room a stream waits for the flush rather than send crumbs. */
const MIN_DATA_ROOM = 16_384;
/** A turn reads a tunnel this often before others get theirs. */
const READS_PER_TURN = 4;
/** First word of a PING's payload: what its answer means. */
const PING_ALIVE = 0;
const PING_DRAIN = 1;
/** When the first of the requests asked meanwhile may be due: their times are whole seconds. */
const SWEEP_MS = (limit.CONNECT_ANSWER_S + 1) * 1_000;
/** Less than this in one go, and nothing pending in OpenSSL: probably nothing is left. The socket is level-triggered. */
const PROBABLY_DRAINED = 49_152;

export type TunnelState = "connecting" | "handshake" | "open" | "closed";

/** A CONNECT as received; null is absent. Read it during the call: the next request overwrites it. */
export type ConnectRequest = Pick<
  ConnectRequestFields,
  "method" | "authority" | "baggage" | "forwarded" | "traceparent" | "forwardedNetwork"
>;

export interface TunnelOwner {
  /** The peer is verified (`tunnel.peerUriSans`) and streams may be opened. */
  onOpen(tunnel: Tunnel): void;
  /** The peer takes no new streams on this connection. */
  onGoAway(tunnel: Tunnel): void;
  /** Over; every stream has been told before. Called exactly once. */
  onClosed(tunnel: Tunnel, error: HboneError): void;
  /** Server: a well-formed request, to be bound to a stream (`bind`) or refused (`refuse`) during the call. */
  onConnect(tunnel: Tunnel, streamId: number, request: ConnectRequest, isEnded: boolean): void;
}

/** Where the peer is, and the book that remembers what its earlier tunnels have cost. */
export interface TunnelPeer {
  readonly book: PeerBook;
  readonly ip: Ip;
}

/** `closed`: given up by us, or lost, before it was done. */
export type HandshakeOutcome = "ok" | "tls" | "identity" | "timeout" | "closed";

/** Told once per handshake that began; `ms` from the TCP connection to its end, on the clock of turns. */
export type HandshakeObserver = (
  role: "client" | "server",
  outcome: HandshakeOutcome,
  ms: number,
) => void;

export interface TunnelOptions {
  readonly reactor: Reactor;
  /** Connected, or connecting when `isConnecting`; the tunnel owns it. */
  readonly fd: number;
  readonly isConnecting?: boolean;
  readonly context: TlsContext;
  readonly peerCheck: PeerCheck;
  readonly owner: TunnelOwner;
  /** Client: the first stream's id, odd. Tests start near the last one. */
  readonly firstStreamId?: number;
  /** Without it the tunnel has budgets of its own. */
  readonly peer?: TunnelPeer;
  readonly onHandshake?: HandshakeObserver;
}

let lastTunnelId = 0;

/** Owns the socket, the TLS session and, while it has output, one write buffer. */
export class Tunnel implements FdHandler, Flushable, Task {
  /** Unique in this thread. */
  readonly id: number = ++lastTunnelId;
  isDirty = false;
  isQueued = false;
  readonly fd: number;
  readonly role: "client" | "server";
  readonly streams: Map<number, HboneStream> = new Map();
  state: TunnelState;
  /** A peer's GOAWAY came, or ours was sent: no new streams. */
  isGoingAway = false;
  openedAtMs = 0;
  peerUriSans: readonly string[] = [];
  /** The peer's limit on our streams. */
  peerMaxStreams: number = limit.ASSUMED_PEER_STREAMS;
  /** Bytes that wait for slow applications, over all streams, those that have left the tunnel included. */
  #backlog = 0;
  readonly #reactor: Reactor;
  readonly #owner: TunnelOwner;
  #tls: TlsSession | null = null;
  #timer: Timer | null = null;
  /** Runs while a request may be without an answer: a timer for each would cost more than the sweep. */
  #answerTimer: Timer | null = null;
  /** Runs from a GOAWAY on: until the peer must have seen ours, or must have answered. */
  #goAwayTimer: Timer | null = null;
  #write: NativeBuffer | null = null;
  #start = 0;
  #end = 0;
  #isWriteBlocked = false;
  #blocked: HboneStream[] = [];
  #unopened: { stream: HboneStream; headers: HeaderList }[] = [];
  #sendWindow: number = DEFAULT_WINDOW;
  #peerStreamWindow: number = DEFAULT_WINDOW;
  #peerMaxFrame = 16_384;
  #recvWindow: number = DEFAULT_WINDOW;
  /** What `#recvWindow` is refilled to. */
  #recvWindowSize: number = DEFAULT_WINDOW;
  #recvUngranted = 0;
  #nextStreamId = 1;
  #lastPeerStreamId = 0;
  /** The peer's first frame, which has to be SETTINGS, has come. */
  #isGreeted = false;
  #isSettingsAcked = false;
  #isFinalGoAwaySent = false;
  #closeTask: Task | null = null;
  /** Frames that traffic has paid for (limits.ts). */
  #credit = 64 * limit.FRAME_COST;
  /** In the read that is being parsed. */
  #frames = 0;
  #turn = 0;
  /** In that turn of the reactor. */
  #requests = 0;
  /** Parsing stopped before a frame, because this turn has had its requests. */
  #isHeldBack = false;
  /** Streams above it are refused after our GOAWAY. */
  #finalStreamId = MAX_WINDOW;
  /** Read, but not yet parsed: a frame that has not arrived whole, or what a turn left to the next one. */
  #part: Buffer | null = null;
  #partLength = 0;
  #prefaceLeft = 0;
  /** Inside a DATA frame: payload and padding still to come, and for which stream. */
  #dataLeft = 0;
  #padLeft = 0;
  #dataEnds = false;
  #dataStream: HboneStream | null = null;
  /** A header block in progress: stream id, its bytes so far, and whether it ends the stream. */
  #blockStream = 0;
  #blockEnds = false;
  #block: Buffer[] = [];
  #blockLength = 0;
  #isPingOut = false;
  #isDrainPing = false;
  #drainsOnceOpen = false;
  readonly #decoder = new HpackDecoder();
  readonly #encoder = new HpackEncoder();
  readonly #request = new ConnectRequestFields();
  readonly #response = new ConnectResponseFields();
  readonly #peer: TunnelPeer | null;
  readonly #onHandshake: HandshakeObserver | null;
  /** What the peer has left of its budgets, over all its tunnels. Set once the handshake has told who it is. */
  #account!: PeerAccount;
  /** Frames that belong to every connection; they draw on no budget. */
  #due = limit.FRAMES_OF_A_CONNECTION;
  /** When the handshake began; -1 before and after. */
  #handshakeFromMs = -1;

  /** Every failure is told by `owner.onClosed`, in a later turn. */
  constructor(options: TunnelOptions) {
    this.#reactor = options.reactor;
    this.#owner = options.owner;
    this.#peer = options.peer ?? null;
    this.#onHandshake = options.onHandshake ?? null;
    this.fd = options.fd;
    this.#nextStreamId = options.firstStreamId ?? 1;
    this.role = options.context.role;
    this.#prefaceLeft = this.role === "server" ? PREFACE.length : 0;
    this.state = options.isConnecting === true ? "connecting" : "handshake";
    if (this.state === "handshake") this.#handshakeFromMs = this.#reactor.steadyMs;
    const timeoutMs =
      this.state === "connecting" ? limit.CONNECT_TIMEOUT_MS : limit.HANDSHAKE_TIMEOUT_MS;
    this.#timer = this.#reactor.after(timeoutMs, () => this.#onSetupTimeout());
    try {
      this.#reactor.add(this.fd, EPOLLIN | EPOLLOUT, this);
      // also while connecting: the context may be replaced, and disposed, before the connection stands
      this.#tls = options.context.open(this.fd, options.peerCheck);
    } catch (error) {
      if (!(error instanceof TlsError || error instanceof SysError)) throw error;
      const reason = new HboneError("TLS", `The tunnel cannot start: ${error.message}`);
      this.#reactor.again({ isQueued: false, onTurn: () => this.#finish(reason) });
    }
  }

  /** Whether one more stream may be opened now. */
  get hasRoomForStream(): boolean {
    return (
      this.state !== "closed" &&
      !this.isGoingAway &&
      this.streams.size + this.#unopened.length < this.peerMaxStreams
    );
  }

  get backlog(): number {
    return this.#backlog;
  }

  /** Streams open or waiting to be opened. */
  get streamCount(): number {
    return this.streams.size + this.#unopened.length;
  }

  onReady(events: number): void {
    if (this.state === "connecting") this.#finishConnect(events);
    if (this.state === "handshake") this.#stepHandshake();
    if (this.state !== "open") return;
    if (this.#isWriteBlocked && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0) this.#resume();
    if (this.state !== "open") return;
    this.#read();
  }

  onTurn(): void {
    if (this.state === "open") this.#read();
  }

  /** Client: sends CONNECT with `headers` and binds `stream` to it. @throws {HboneError} REFUSED when it takes none */
  openStream(stream: HboneStream, headers: HeaderList): void {
    if (!this.hasRoomForStream) throw new HboneError("REFUSED", "The tunnel takes no more streams");
    stream.begin(this, 0, 0);
    stream.askedAtS = (this.#reactor.steadyMs / 1_000) | 0;
    this.#answerTimer ??= this.#reactor.after(SWEEP_MS, () => this.#onAnswersDue());
    if (this.state !== "open" || this.#roomFor(HpackEncoder.maxBytes(headers) + HEADER) < 0)
      this.#unopened.push({ stream, headers });
    else this.#sendConnect(stream, headers);
  }

  /** Server: takes up the request `streamId`; `respond` answers it, now or later. */
  bind(stream: HboneStream, streamId: number, isEnded: boolean): void {
    stream.begin(this, streamId, this.#peerStreamWindow);
    stream.isRemoteEnded = isEnded;
    this.streams.set(streamId, stream);
  }

  /** Server: answers a stream's CONNECT. A status other than 200 ends the stream. @param headers `:status` first */
  respond(stream: HboneStream, status: number, headers: HeaderList): void {
    const id = stream.streamId;
    if (stream.tunnel !== this || this.state !== "open") return;
    stream.isEstablished = true;
    stream.answeredInTurn = this.#reactor.turns;
    this.#sendHeaders(id, headers, status !== 200);
    if (status === 200) return;
    stream.isLocalEnded = true;
    if (!stream.isRemoteEnded) this.#sendReset(id, ERROR.NO_ERROR);
    this.#forget(stream);
    if (status < 500) this.#spend(this.#account.denials, "denied requests");
  }

  /** Server: answers a request that gets no stream. */
  refuse(streamId: number, status: number, isEnded: boolean): void {
    if (this.state !== "open") return;
    this.#sendHeaders(streamId, [[":status", String(status)]], true);
    if (!isEnded) this.#sendReset(streamId, ERROR.NO_ERROR);
    this.#spend(this.#account.denials, "denied requests");
  }

  /**
   * Hot path. How many payload bytes `stream` may place at `payloadAddress` now; 0 when it must wait
   * for `onTurn`.
   */
  reserve(stream: HboneStream): number {
    if (this.state !== "open") return 0;
    if (stream.sendWindow <= 0) return 0; // its WINDOW_UPDATE will wake it
    const room = WRITE_SIZE - CONTROL_ROOM - HEADER - this.#end;
    if (room < MIN_DATA_ROOM || this.#sendWindow <= 0) {
      this.#waitForRoom(stream);
      return 0;
    }
    if (this.#write === null) this.#write = takeWriteBuffer();
    let size = room < limit.MAX_SEND_FRAME ? room : limit.MAX_SEND_FRAME;
    if (size > stream.sendWindow) size = stream.sendWindow;
    if (size > this.#sendWindow) size = this.#sendWindow;
    return size > this.#peerMaxFrame ? this.#peerMaxFrame : size;
  }

  /** Hot path. Where the payload reserved last goes. */
  get payloadAddress(): number {
    return (this.#write?.address ?? 0) + this.#end + HEADER;
  }

  /** Hot path. Frames `length` bytes placed at `payloadAddress`. */
  commit(stream: HboneStream, length: number): void {
    this.#frameHeader(length, FRAME.DATA, 0, stream.streamId);
    this.#end += length;
    stream.sendWindow -= length;
    this.#sendWindow -= length;
    if (this.#credit < limit.CREDIT_MAX) this.#credit += limit.CREDIT_PER_DATA_FRAME + length;
  }

  /** Hot path. Frames `length` bytes of `from`, which is borrowed; no more than `reserve` allowed. */
  commitCopy(stream: HboneStream, from: Buffer, offset: number, length: number): void {
    if (this.#write === null) return;
    from.copy(this.#write.bytes, this.#end + HEADER, offset, offset + length);
    this.commit(stream, length);
  }

  /** No more bytes from our side. Forgets the stream when both sides have ended. */
  endStream(stream: HboneStream): void {
    if (stream.tunnel !== this || stream.isLocalEnded) return;
    stream.isLocalEnded = true;
    if (stream.streamId === 0) return this.#forget(stream);
    this.#ensureRoom(HEADER);
    this.#frameHeader(0, FRAME.DATA, FLAG.END_STREAM, stream.streamId);
    if (stream.isRemoteEnded) this.#forget(stream);
  }

  /** Ends the stream at once, telling the peer why. */
  resetStream(stream: HboneStream, code: number): void {
    if (stream.tunnel !== this) return;
    const isEnded = stream.isLocalEnded && stream.isRemoteEnded;
    if (stream.streamId !== 0 && this.state === "open" && !isEnded)
      this.#sendReset(stream.streamId, code);
    this.#forget(stream);
  }

  /** Hot path. `length` bytes of this stream have left us for the application: the peer may send as many more. */
  consumed(stream: HboneStream, length: number): void {
    stream.recvUngranted += length;
    if (stream.recvUngranted < stream.recvWindowSize >> 1 || stream.isRemoteEnded) return;
    let grant = stream.recvUngranted;
    const { steadyMs } = this.#reactor;
    const isFast = steadyMs - stream.recvGrantedAtMs < limit.GROW_WITHIN_MS;
    if (isFast && stream.recvWindowSize < limit.STREAM_WINDOW_MAX) {
      grant += stream.recvWindowSize;
      stream.recvWindowSize *= 2;
    }
    stream.recvGrantedAtMs = steadyMs;
    stream.recvUngranted = 0;
    stream.recvWindow += grant;
    if (stream.tunnel === this) this.#sendWindowUpdate(stream.streamId, grant);
  }

  /** Hot path: runs once a turn. Writes what waits; wakes the streams that waited for room. */
  flush(): void {
    const buffer = this.#write;
    if (buffer === null) return;
    if (this.#tls === null || this.state !== "open") return this.#releaseWrite(buffer);
    if (this.#isWriteBlocked) return;
    while (this.#start < this.#end) {
      const put = this.#tls.write(buffer.address + this.#start, this.#end - this.#start);
      if (put === WOULD_BLOCK) break;
      if (put <= 0) return this.#lost();
      this.#start += put;
    }
    const { isBlocked } = this.#tls;
    if (isBlocked !== this.#isWriteBlocked) this.#watchWritable(isBlocked);
    if (this.#start === this.#end) {
      this.#releaseWrite(buffer);
      if (this.isGoingAway) this.#closeWhenIdle();
    } else if (this.#start > WRITE_SIZE / 2) this.#compact(buffer);
    if (this.#end < WRITE_SIZE / 2) this.#wakeBlocked();
  }

  #releaseWrite(buffer: NativeBuffer): void {
    this.#start = 0;
    this.#end = 0;
    this.#write = null;
    giveWriteBuffer(buffer);
  }

  #resume(): void {
    this.#tls?.resume();
    this.#watchWritable(false);
    this.flush();
  }

  /** Writability is asked for only while something waits: the socket is level-triggered. */
  #watchWritable(isBlocked: boolean): void {
    this.#isWriteBlocked = isBlocked;
    this.#reactor.modify(this.fd, isBlocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  /** Graceful end: no new streams, those running go on; closes when the last has ended. */
  drain(): void {
    if (this.state === "closed" || this.isGoingAway) return;
    if (this.state !== "open") {
      this.#drainsOnceOpen = true; // whoever waits for it is served first
      return;
    }
    this.isGoingAway = true;
    if (this.role === "client") return this.#finishDrain(); // the peer opens no streams
    // a request that crosses the first GOAWAY is still served: the PING's answer comes behind it (§6.8)
    this.#sendGoAway(MAX_WINDOW, ERROR.NO_ERROR);
    this.#isDrainPing = true;
    this.#sendPing(PING_DRAIN);
    this.#goAwayTimer = this.#reactor.after(limit.DRAIN_PING_MS, () => this.#finishDrain());
  }

  #finishDrain(): void {
    this.#isDrainPing = false;
    this.#goAwayTimer?.cancel();
    this.#goAwayTimer = null;
    this.#finalStreamId = this.#lastPeerStreamId;
    this.#sendGoAway(this.#finalStreamId, ERROR.NO_ERROR);
    this.#isFinalGoAwaySent = true;
    this.#closeWhenIdle();
  }

  /** Ends the connection now: GOAWAY if the peer can still read it, every stream told, socket closed. */
  close(error: HboneError, code: number = ERROR.NO_ERROR): void {
    if (this.state === "closed") return;
    if (this.state === "open") {
      if (code !== ERROR.NO_ERROR || !this.#isFinalGoAwaySent)
        this.#sendGoAway(this.#lastPeerStreamId, code);
      this.flush();
    }
    this.#finish(error);
  }

  // — setting up —

  #finishConnect(events: number): void {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) === 0) return;
    const errno = socketError(this.fd);
    if (errno !== 0) return this.#finish(new HboneError("CONNECT", `connect: ${errnoName(errno)}`));
    this.state = "handshake";
    this.#handshakeFromMs = this.#reactor.steadyMs;
    this.#timer?.cancel();
    this.#timer = this.#reactor.after(limit.HANDSHAKE_TIMEOUT_MS, () => this.#onSetupTimeout());
  }

  #stepHandshake(): void {
    const tls = this.#tls;
    if (tls === null) return;
    try {
      const step = tls.handshake();
      if (step !== "done") return this.#watchWritable(step === "want-write");
    } catch (error) {
      if (!(error instanceof TlsError)) throw error;
      const code = tls.refusal === null ? "TLS" : "PEER_IDENTITY";
      this.#handshakeOver(code === "TLS" ? "tls" : "identity");
      return this.#finish(new HboneError(code, `TLS handshake failed: ${error.message}`), true);
    }
    this.state = "open";
    this.#handshakeOver("ok");
    this.#watchWritable(false);
    this.openedAtMs = this.#reactor.nowMs;
    this.peerUriSans = tls.peerUriSans;
    this.#account =
      this.#peer === null
        ? new PeerAccount()
        : this.#peer.book.enter(this.peerUriSans, this.#peer.ip, this.#reactor.steadyMs);
    this.#waitToPing();
    this.#sendSettings();
    this.#owner.onOpen(this);
    this.#openWaiting();
    if (this.#drainsOnceOpen) this.drain();
  }

  #handshakeOver(outcome: HandshakeOutcome): void {
    if (this.#handshakeFromMs < 0) return;
    this.#onHandshake?.(this.role, outcome, this.#reactor.steadyMs - this.#handshakeFromMs);
    this.#handshakeFromMs = -1;
  }

  #onSetupTimeout(): void {
    this.#handshakeOver("timeout");
    const error =
      this.state === "connecting"
        ? new HboneError(
            "CONNECT_TIMEOUT",
            `No TCP connection within ${limit.CONNECT_TIMEOUT_MS} ms`,
          )
        : new HboneError("TLS", `No TLS handshake within ${limit.HANDSHAKE_TIMEOUT_MS} ms`);
    this.#finish(error);
  }

  #sendSettings(): void {
    const isClient = this.role === "client";
    if (isClient) {
      this.#ensureRoom(PREFACE.length);
      this.#write?.bytes.set(PREFACE, this.#end);
      this.#end += PREFACE.length;
    }
    const settings: (readonly [number, number])[] = isClient
      ? [[SETTING.ENABLE_PUSH, 0]]
      : [[SETTING.MAX_CONCURRENT_STREAMS, limit.MAX_CONCURRENT_STREAMS]];
    settings.push(
      [SETTING.INITIAL_WINDOW_SIZE, limit.STREAM_WINDOW_START],
      [SETTING.MAX_FRAME_SIZE, limit.MAX_FRAME_SIZE],
      [SETTING.MAX_HEADER_LIST_SIZE, limit.MAX_HEADER_BLOCK],
    );
    const o = this.#beginControl(settings.length * 6, FRAME.SETTINGS, 0, 0);
    settings.forEach(([id, value], i) => {
      this.#write?.bytes.writeUInt16BE(id, o + i * 6);
      this.#write?.bytes.writeUInt32BE(value, o + i * 6 + 2);
    });
    this.#recvWindowSize = this.#account.promise(0);
    this.#recvWindow = this.#recvWindowSize;
    if (this.#recvWindowSize > DEFAULT_WINDOW)
      this.#sendWindowUpdate(0, this.#recvWindowSize - DEFAULT_WINDOW);
  }

  // — reading —

  /** Hot path: runs per readiness of the socket. */
  #read(): void {
    const tls = this.#tls;
    if (tls === null) return;
    const scratch = readScratch();
    let have = this.#restorePart(scratch.bytes);
    if (this.#turn !== this.#reactor.turns) {
      this.#turn = this.#reactor.turns;
      this.#requests = 0;
    }
    if (this.#isHeldBack) {
      have = this.#parseAll(scratch.bytes, have);
      if (have < 0) return;
      if (this.#isHeldBack) return this.#goOnLater(scratch.bytes, have);
    }
    for (let turn = 0; turn < READS_PER_TURN; turn++) {
      let got = 0;
      let result = 0;
      let isDrained = false;
      while (have + got < READ_SIZE - 16_384) {
        result = tls.read(scratch.address + have + got, READ_SIZE - have - got);
        if (result <= 0) break;
        got += result;
        if (got < PROBABLY_DRAINED && !tls.hasPending()) {
          isDrained = true;
          break;
        }
      }
      if (got > 0) {
        have = this.#parseAll(scratch.bytes, have + got);
        if (have < 0) return;
        if (this.#isHeldBack) return this.#goOnLater(scratch.bytes, have);
      }
      if (isDrained || result === WOULD_BLOCK) return this.#keepPart(scratch.bytes, have);
      if (result < 0) return this.#lost();
      if (this.#frames > limit.FRAMES_PER_TURN) break;
    }
    this.#goOnLater(scratch.bytes, have);
  }

  /** Hot path. Parses `[0, end)` and moves the rest to the front; its length, or -1 when the tunnel has ended. */
  #parseAll(b: Buffer, end: number): number {
    this.#frames = 0;
    this.#isHeldBack = false;
    const used = this.#parse(b, end);
    if (this.state !== "open") return -1;
    if (used < end) b.copyWithin(0, used, end);
    return end - used;
  }

  /** Others get their turn. */
  #goOnLater(from: Buffer, have: number): void {
    this.#keepPart(from, have);
    this.#reactor.again(this);
  }

  #restorePart(into: Buffer): number {
    const length = this.#partLength;
    if (length > 0) this.#part?.copy(into, 0, 0, length);
    this.#part = null;
    this.#partLength = 0;
    return length;
  }

  #keepPart(from: Buffer, length: number): void {
    this.#partLength = length;
    if (length > 0) this.#part = Buffer.from(from.subarray(0, length));
  }

  /** Hot path. Handles every whole frame, and DATA as far as it has come. Returns the bytes used. */
  #parse(b: Buffer, end: number): number {
    let o = 0;
    if (this.#prefaceLeft > 0) {
      if (end < PREFACE.length) return 0;
      if (b.compare(PREFACE, 0, PREFACE.length, 0, PREFACE.length) !== 0) {
        this.#fail(ERROR.PROTOCOL_ERROR, "no HTTP/2 preface");
        return 0;
      }
      this.#prefaceLeft = 0;
      o = PREFACE.length;
    }
    for (;;) {
      if (this.#dataLeft > 0 || this.#padLeft > 0) {
        o = this.#continueData(b, o, end);
        if (this.#dataLeft > 0 || this.#padLeft > 0 || this.state !== "open") return o;
      }
      if (end - o < HEADER) return o;
      if (this.#requests >= limit.REQUESTS_PER_TURN) {
        this.#isHeldBack = true;
        return o;
      }
      this.#frames++;
      const length = ((b[o] ?? 0) << 16) | ((b[o + 1] ?? 0) << 8) | (b[o + 2] ?? 0);
      const type = b[o + 3] ?? 0;
      const flags = b[o + 4] ?? 0;
      const id =
        (((b[o + 5] ?? 0) & 0x7f) << 24) |
        ((b[o + 6] ?? 0) << 16) |
        ((b[o + 7] ?? 0) << 8) |
        (b[o + 8] ?? 0);
      if (this.#blockStream !== 0 && (type !== FRAME.CONTINUATION || id !== this.#blockStream)) {
        this.#fail(ERROR.PROTOCOL_ERROR, "a header block was interrupted");
        return o;
      }
      if (type === FRAME.DATA) {
        const padded = (flags & FLAG.PADDED) !== 0 ? 1 : 0;
        if (end - o < HEADER + padded) return o;
        if (!this.#beginData(length, flags, id, padded === 1 ? (b[o + HEADER] ?? 0) : -1)) return o;
        o += HEADER + padded;
        if (this.#dataLeft === 0 && this.#padLeft === 0) this.#finishData();
        continue;
      }
      if (type > FRAME.CONTINUATION && length > limit.MAX_CONTROL_FRAME) {
        if (!this.#skipUnknown(length)) return o;
        o += HEADER;
        continue;
      }
      if (!this.#isAcceptable(type, length)) return o;
      if (end - o - HEADER < length) return o;
      this.#onFrame(type, flags, id, b, o + HEADER, length);
      if (this.state !== "open") return o;
      o += HEADER + length;
    }
  }

  /** A large frame of a type we do not know goes by like DATA of no stream. */
  #skipUnknown(length: number): boolean {
    if (length > limit.MAX_FRAME_SIZE) {
      this.#fail(ERROR.FRAME_SIZE_ERROR, `a frame of ${length} bytes`);
      return false;
    }
    this.#dataLeft = length;
    this.#dataStream = null;
    this.#dataEnds = false;
    return this.#spendControl("unknown frames");
  }

  #isAcceptable(type: number, length: number): boolean {
    const isHeaders = type === FRAME.HEADERS || type === FRAME.CONTINUATION;
    if (length <= (isHeaders ? limit.MAX_HEADER_BLOCK : limit.MAX_CONTROL_FRAME)) return true;
    this.#fail(
      isHeaders ? ERROR.ENHANCE_YOUR_CALM : ERROR.FRAME_SIZE_ERROR,
      `a frame of type ${type} with ${length} bytes`,
    );
    return false;
  }

  /** Hot path. Checks a DATA header against state and windows; `false` when the connection has ended. */
  #beginData(length: number, flags: number, id: number, pad: number): boolean {
    if (id === 0 || length > limit.MAX_FRAME_SIZE || pad >= length) {
      const isSize = id !== 0 && (length > limit.MAX_FRAME_SIZE || length === 0);
      this.#fail(
        isSize ? ERROR.FRAME_SIZE_ERROR : ERROR.PROTOCOL_ERROR,
        `a malformed DATA frame of ${length} bytes on stream ${id}`,
      );
      return false;
    }
    const payload = pad >= 0 ? length - 1 - pad : length;
    this.#recvWindow -= length;
    if (this.#recvWindow < 0) {
      this.#fail(ERROR.FLOW_CONTROL_ERROR, "more DATA than the connection window allows");
      return false;
    }
    const stream = this.streams.get(id) ?? null;
    const isEnd = (flags & FLAG.END_STREAM) !== 0;
    if (payload === 0 && !isEnd && !this.#spendControl("empty DATA frames")) return false;
    if (stream === null || stream.isRemoteEnded) {
      if (!this.#tolerateClosed(id, stream)) return false;
      this.#dataStream = null;
    } else if (!stream.isEstablished && this.role === "client") {
      this.#resetByPeerFault(stream, ERROR.PROTOCOL_ERROR); // payload before the answer (§8.1)
      if (this.state !== "open") return false;
      this.#dataStream = null;
    } else {
      stream.recvWindow -= length;
      if (stream.recvWindow < 0) {
        this.#resetByPeerFault(stream, ERROR.FLOW_CONTROL_ERROR);
        if (this.state !== "open") return false;
        this.#dataStream = null;
      } else {
        this.#dataStream = stream;
        if (pad >= 0) this.consumed(stream, pad + 1); // padding goes nowhere
      }
    }
    this.#dataLeft = payload;
    this.#padLeft = pad >= 0 ? pad : 0;
    this.#dataEnds = isEnd;
    this.#recvUngranted += length;
    if (this.#recvUngranted >= this.#recvWindowSize >> 2) this.#grantConnectionWindow();
    return true;
  }

  /** Hot path. */
  #continueData(b: Buffer, offset: number, end: number): number {
    let o = offset;
    if (this.#dataLeft > 0) {
      const length = Math.min(this.#dataLeft, end - o);
      if (length > 0) {
        this.#dataStream?.onData(o, length);
        this.#dataLeft -= length;
        o += length;
      }
    }
    if (this.#dataLeft === 0 && this.#padLeft > 0) {
      const length = Math.min(this.#padLeft, end - o);
      this.#padLeft -= length;
      o += length;
    }
    if (this.#dataLeft === 0 && this.#padLeft === 0) this.#finishData();
    return o;
  }

  #finishData(): void {
    const stream = this.#dataStream;
    this.#dataStream = null;
    if (!this.#dataEnds) return;
    this.#dataEnds = false;
    if (stream !== null) this.#endRemote(stream);
  }

  #endRemote(stream: HboneStream): void {
    if (stream.isRemoteEnded) return;
    stream.isRemoteEnded = true;
    const isOver = stream.isLocalEnded;
    stream.onEnd();
    if (isOver) this.#forget(stream);
  }

  /** The owner of a stream keeps `length` bytes that its application cannot take yet. */
  hold(length: number): void {
    this.#backlog += length;
    this.#account.held += length;
  }

  /** So many of them are gone, now or long after the stream and the tunnel have ended. */
  release(length: number): void {
    this.#backlog -= length;
    this.#account.release(length, this.#reactor.steadyMs);
    if (this.#recvUngranted >= this.#recvWindowSize >> 2) this.#grantConnectionWindow();
  }

  /** Refills the window, unless too much waits: here, or in other tunnels of this peer while some waits here too. */
  #grantConnectionWindow(): void {
    if (this.state !== "open" || this.#backlog >= limit.CONNECTION_BACKLOG_MAX) return;
    if (this.#backlog > 0 && this.#account.held >= limit.PEER_BACKLOG_MAX) return;
    let grant = this.#recvUngranted;
    if (this.#recvWindowSize < limit.CONNECTION_WINDOW) {
      const size = this.#account.promise(this.#recvWindowSize);
      grant += size - this.#recvWindowSize;
      this.#recvWindowSize = size;
    }
    this.#recvWindow += grant;
    this.#sendWindowUpdate(0, grant);
    this.#recvUngranted = 0;
  }

  // — control frames —

  #onFrame(type: number, flags: number, id: number, b: Buffer, o: number, length: number): void {
    const violation = checkFrame(type, flags, id, length);
    if (violation !== null) return this.#fail(violation.code, violation.reason);
    if (!this.#isGreeted) {
      if (type !== FRAME.SETTINGS || (flags & FLAG.ACK) !== 0)
        return this.#fail(ERROR.PROTOCOL_ERROR, "the first frame is not SETTINGS");
      this.#isGreeted = true;
    }
    switch (type) {
      case FRAME.HEADERS:
        return this.#onHeaders(flags, id, b, o, length);
      case FRAME.CONTINUATION:
        return this.#onContinuation(flags, b, o, length);
      case FRAME.RST_STREAM:
        return this.#onReset(id, b, o);
      case FRAME.SETTINGS:
        return this.#onSettings(flags, b, o, length);
      case FRAME.PING:
        return this.#onPing(flags, b, o);
      case FRAME.GOAWAY:
        return this.#onGoAway(b, o);
      case FRAME.WINDOW_UPDATE:
        return this.#onWindowUpdate(id, b, o);
      case FRAME.PRIORITY:
        this.#spendControl("PRIORITY frames");
        return;
      default: // unknown types are ignored (RFC 9113 §4.1), at a price
        this.#spendControl("unknown frames");
    }
  }

  #onHeaders(flags: number, id: number, b: Buffer, at: number, total: number): void {
    let o = at;
    let length = total;
    if ((id & 1) === 0) return this.#fail(ERROR.PROTOCOL_ERROR, `HEADERS on stream ${id}`);
    if ((flags & FLAG.PADDED) !== 0) {
      const pad = b[o] ?? 0;
      o++;
      length -= 1 + pad;
    }
    if (length < ((flags & FLAG.PRIORITY) !== 0 ? 5 : 0))
      return this.#fail(ERROR.PROTOCOL_ERROR, "HEADERS padding");
    if ((flags & FLAG.PRIORITY) !== 0) {
      o += 5;
      length -= 5;
    }
    this.#blockStream = id;
    this.#blockEnds = (flags & FLAG.END_STREAM) !== 0;
    if ((flags & FLAG.END_HEADERS) !== 0) return this.#onHeaderBlock(b, o, o + length);
    this.#block.push(Buffer.from(b.subarray(o, o + length)));
    this.#blockLength = length;
  }

  #onContinuation(flags: number, b: Buffer, o: number, length: number): void {
    if (this.#blockStream === 0)
      return this.#fail(ERROR.PROTOCOL_ERROR, "CONTINUATION without HEADERS");
    this.#blockLength += length;
    if (this.#blockLength > limit.MAX_HEADER_BLOCK || this.#block.length > limit.MAX_CONTINUATIONS)
      return this.#fail(ERROR.ENHANCE_YOUR_CALM, "a header block that does not end");
    this.#block.push(Buffer.from(b.subarray(o, o + length)));
    if ((flags & FLAG.END_HEADERS) === 0) return;
    const block = Buffer.concat(this.#block);
    this.#onHeaderBlock(block, 0, block.length);
  }

  #onHeaderBlock(b: Buffer, start: number, end: number): void {
    const id = this.#blockStream;
    const isEnd = this.#blockEnds;
    this.#blockStream = 0;
    if (this.#block.length > 0) this.#block = [];
    this.#blockLength = 0;
    if (end - start > limit.FREE_HEADER_BLOCK && !this.#spendControl("large header blocks")) return;
    const fields = this.role === "server" ? this.#request : this.#response;
    fields.reset();
    try {
      this.#decoder.decode(b, start, end, HEADER_LIMITS, fields.onHeader);
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
      const code =
        error.code === "LIST_TOO_LARGE" ? ERROR.ENHANCE_YOUR_CALM : ERROR.COMPRESSION_ERROR;
      return this.#fail(code, error.message);
    }
    const stream = this.streams.get(id);
    if (stream !== undefined && (this.role === "server" || stream.isEstablished))
      return this.#onTrailers(stream, isEnd);
    if (this.role === "server") this.#onRequest(id, isEnd);
    else this.#onResponse(id, stream, isEnd);
  }

  /** Trailers carry nothing here; they end the stream, and headers that do not are an error of the stream. */
  #onTrailers(stream: HboneStream, isEnd: boolean): void {
    if (stream.isRemoteEnded) this.#resetByPeerFault(stream, ERROR.STREAM_CLOSED);
    else if (isEnd) this.#endRemote(stream);
    else this.#resetByPeerFault(stream, ERROR.PROTOCOL_ERROR);
  }

  #onRequest(id: number, isEnd: boolean): void {
    if (id <= this.#lastPeerStreamId) {
      this.#tolerateClosed(id, null);
      return;
    }
    this.#lastPeerStreamId = id;
    this.#earnStreamCredit();
    const request = this.#request;
    const isRefused = id > this.#finalStreamId || this.streams.size >= limit.MAX_CONCURRENT_STREAMS;
    if (isRefused || request.kind === "malformed") {
      if (!this.#spend(this.#account.resets, "malformed or excess streams")) return;
      return this.#sendReset(id, isRefused ? ERROR.REFUSED_STREAM : ERROR.PROTOCOL_ERROR);
    }
    this.#requests++;
    this.#owner.onConnect(this, id, request, isEnd);
  }

  #onResponse(id: number, stream: HboneStream | undefined, isEnd: boolean): void {
    if (stream === undefined) {
      this.#tolerateClosed(id, null);
      return;
    }
    const { status } = this.#response;
    if (status === null) return this.#resetByPeerFault(stream, ERROR.PROTOCOL_ERROR);
    if (status >= 100 && status < 200) {
      if (isEnd) this.#resetByPeerFault(stream, ERROR.PROTOCOL_ERROR);
      else this.#spendControl("interim responses");
      return;
    }
    stream.isEstablished = true;
    if (status === 200) {
      stream.onResponse(200);
      if (isEnd) this.#endRemote(stream);
      return;
    }
    if (!isEnd) this.#sendReset(id, ERROR.CANCEL);
    else if (!stream.isLocalEnded) this.#sendReset(id, ERROR.NO_ERROR);
    this.#forget(stream);
    stream.deniedBy = this.#response.deniedBy;
    stream.onResponse(status);
  }

  #onReset(id: number, b: Buffer, o: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      this.#tolerateClosed(id, null);
      return;
    }
    const isEarly = !stream.isEstablished || stream.answeredInTurn === this.#reactor.turns;
    if (this.role === "server" && isEarly && !this.#spend(this.#account.resets, "reset streams"))
      return;
    const code = b.readUInt32BE(o);
    this.#forget(stream);
    stream.onReset(
      code,
      code === ERROR.REFUSED_STREAM ? new HboneError("REFUSED", "Refused by the peer") : null,
    );
  }

  #onSettings(flags: number, b: Buffer, at: number, length: number): void {
    if ((flags & FLAG.ACK) !== 0) {
      if (this.#isSettingsAcked) this.#spendControl("SETTINGS acknowledgements");
      this.#isSettingsAcked = true;
      return;
    }
    if (!this.#spendControl("SETTINGS frames")) return;
    for (let o = at; o < at + length; o += 6) {
      this.#onSetting(b.readUInt16BE(o), b.readUInt32BE(o + 2));
      if (this.state !== "open") return;
    }
    this.#beginControl(0, FRAME.SETTINGS, FLAG.ACK, 0);
    this.#openWaiting();
  }

  #onSetting(id: number, value: number): void {
    const violation = checkSetting(id, value);
    if (violation !== null) return this.#fail(violation.code, violation.reason);
    switch (id) {
      case SETTING.HEADER_TABLE_SIZE:
        return this.#encoder.setMaxTableSize(value);
      case SETTING.ENABLE_PUSH:
        if (value === 1 && this.role === "client")
          this.#fail(ERROR.PROTOCOL_ERROR, "a server enables push");
        return;
      case SETTING.MAX_CONCURRENT_STREAMS:
        this.peerMaxStreams = value;
        return;
      case SETTING.MAX_FRAME_SIZE:
        this.#peerMaxFrame = value;
        return;
      case SETTING.INITIAL_WINDOW_SIZE: {
        const change = value - this.#peerStreamWindow;
        if (change === 0 || !this.#spendControl("window changes")) return;
        this.#peerStreamWindow = value;
        for (const stream of this.streams.values()) {
          stream.sendWindow += change;
          if (stream.sendWindow > MAX_WINDOW)
            return this.#fail(ERROR.FLOW_CONTROL_ERROR, "a stream window");
          if (change > 0) this.#reactor.again(stream);
        }
      }
    }
  }

  #onPing(flags: number, b: Buffer, o: number): void {
    if ((flags & FLAG.ACK) !== 0) return this.#onPong(b.readUInt32BE(o));
    if (!this.#spendControl("PING frames")) return;
    const at = this.#beginControl(8, FRAME.PING, FLAG.ACK, 0);
    b.copy(this.#write?.bytes ?? b, at, o, o + 8);
  }

  #onPong(kind: number): void {
    if (kind === PING_DRAIN && this.#isDrainPing) this.#finishDrain();
    else if (kind === PING_ALIVE && this.#isPingOut) this.#waitToPing();
    else this.#spendControl("PING answers");
  }

  #onGoAway(b: Buffer, o: number): void {
    if (!this.#spendControl("GOAWAY frames")) return;
    const last = b.readUInt32BE(o) & MAX_WINDOW;
    const code = b.readUInt32BE(o + 4);
    const wasGoingAway = this.isGoingAway;
    this.isGoingAway = true;
    if (!wasGoingAway) this.#owner.onGoAway(this);
    if (this.role === "client") {
      const reason = `The peer is going away (${h2ErrorName(code)})`;
      for (const { stream } of this.#unopened.splice(0)) this.#abandon(stream, reason);
      for (const stream of [...this.streams.values()])
        if (stream.streamId > last) this.#abandon(stream, reason);
      this.#goAwayTimer ??= this.#reactor.after(limit.GOAWAY_ANSWER_MS, () =>
        this.#abandonUnanswered(reason),
      );
    }
    this.#closeWhenIdle();
  }

  /** Gives up what was asked too long ago, and comes again when the oldest of the others is due. */
  #onAnswersDue(): void {
    const nowS = (this.#reactor.steadyMs / 1_000) | 0;
    const isOverdue = ({ askedAtS }: HboneStream): boolean =>
      nowS - askedAtS > limit.CONNECT_ANSWER_S;
    if (this.state === "open") {
      for (const stream of this.streams.values())
        if (!stream.isEstablished && isOverdue(stream)) this.#giveUp(stream);
      for (const { stream } of this.#unopened.filter((waiting) => isOverdue(waiting.stream)))
        this.#abandon(stream, `The peer took no stream within ${limit.CONNECT_ANSWER_S} s`);
    }
    let oldestS = nowS + 1;
    for (const { isEstablished, askedAtS } of this.streams.values())
      if (!isEstablished && askedAtS < oldestS) oldestS = askedAtS;
    // before the tunnel is open, its setup has limits of its own
    if (this.#unopened.length > 0) oldestS = Math.min(oldestS, nowS);
    const dueInMs = (oldestS + limit.CONNECT_ANSWER_S + 1) * 1_000 - this.#reactor.steadyMs;
    const isDone = this.state === "closed" || oldestS > nowS;
    this.#answerTimer = isDone ? null : this.#reactor.after(dueInMs, () => this.#onAnswersDue());
  }

  /** A request that the peer has left without an answer. */
  #giveUp(stream: HboneStream): void {
    this.#sendReset(stream.streamId, ERROR.CANCEL);
    if (stream.tunnel !== this) return; // the reset was one frame too many for a peer that does not read
    this.#forget(stream);
    const reason = `No answer to CONNECT within ${limit.CONNECT_ANSWER_S} s`;
    stream.onReset(ERROR.CANCEL, new HboneError("NO_ANSWER", reason));
  }

  #abandonUnanswered(reason: string): void {
    for (const stream of [...this.streams.values()]) {
      if (stream.isEstablished) continue;
      this.#sendReset(stream.streamId, ERROR.CANCEL);
      this.#abandon(stream, reason);
    }
  }

  #abandon(stream: HboneStream, reason: string): void {
    this.#forget(stream);
    stream.onReset(ERROR.REFUSED_STREAM, new HboneError("REFUSED", reason));
  }

  #onWindowUpdate(id: number, b: Buffer, o: number): void {
    if (!this.#spendCredit("WINDOW_UPDATE frames")) return;
    const increment = b.readUInt32BE(o) & MAX_WINDOW;
    if (id === 0) {
      this.#sendWindow += increment;
      if (increment === 0) return this.#fail(ERROR.PROTOCOL_ERROR, "WINDOW_UPDATE by 0");
      if (this.#sendWindow > MAX_WINDOW)
        return this.#fail(ERROR.FLOW_CONTROL_ERROR, "the connection window");
      return this.#wakeBlocked();
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.#isIdle(id)) this.#fail(ERROR.PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream");
      return;
    }
    const wasStalled = stream.sendWindow <= 0;
    stream.sendWindow += increment;
    if (increment === 0 || stream.sendWindow > MAX_WINDOW)
      return this.#resetByPeerFault(
        stream,
        increment === 0 ? ERROR.PROTOCOL_ERROR : ERROR.FLOW_CONTROL_ERROR,
      );
    if (wasStalled) this.#reactor.again(stream);
  }

  /** A frame for a stream that has ended is weather if we may have ended it, else the peer's fault. */
  #tolerateClosed(id: number, stream: HboneStream | null): boolean {
    if (stream !== null) {
      this.#resetByPeerFault(stream, ERROR.STREAM_CLOSED);
      return this.state === "open";
    }
    if (!this.#isIdle(id)) return this.#spendCredit("frames on closed streams");
    this.#fail(ERROR.PROTOCOL_ERROR, `a frame on idle stream ${id}`);
    return false;
  }

  #isIdle(id: number): boolean {
    if ((id & 1) === 0) return true; // a server's own, and we have no push
    return this.role === "server" ? id > this.#lastPeerStreamId : id >= this.#nextStreamId;
  }

  #resetByPeerFault(stream: HboneStream, code: number): void {
    if (!this.#spend(this.#account.resets, "stream errors")) return;
    this.#sendReset(stream.streamId, code);
    this.#forget(stream);
    stream.onReset(code, new HboneError("HTTP2", `The peer broke HTTP/2: ${h2ErrorName(code)}`));
  }

  #spendControl(what: string): boolean {
    if (this.#due > 0) {
      this.#due--;
      return true;
    }
    return this.#spend(this.#account.control, what);
  }

  /** Takes one from the budget; a peer that has none left loses the connection. */
  #spend(budget: Budget, what: string): boolean {
    if (budget.spend(this.#reactor.steadyMs)) return true;
    this.#fail(ERROR.ENHANCE_YOUR_CALM, `too many ${what}`);
    return false;
  }

  /** Takes a frame's cost from what traffic has earned, and beyond that from the budget. */
  #spendCredit(what: string): boolean {
    if (this.#credit < limit.FRAME_COST) return this.#spendControl(what);
    this.#credit -= limit.FRAME_COST;
    return true;
  }

  #earnStreamCredit(): void {
    if (this.#credit < limit.CREDIT_MAX) this.#credit += limit.CREDIT_PER_STREAM;
  }

  // — writing —

  #sendConnect(stream: HboneStream, headers: HeaderList): void {
    stream.begin(this, this.#nextStreamId, this.#peerStreamWindow);
    stream.askedAtS = (this.#reactor.steadyMs / 1_000) | 0;
    this.#nextStreamId += 2;
    this.#earnStreamCredit();
    this.streams.set(stream.streamId, stream);
    this.#sendHeaders(stream.streamId, headers, false);
    if (this.#nextStreamId <= MAX_WINDOW || this.isGoingAway) return;
    this.isGoingAway = true; // ids are used up (§5.1.1)
    this.#owner.onGoAway(this);
  }

  #sendHeaders(id: number, headers: HeaderList, isEnd: boolean): void {
    this.#ensureRoom(HEADER + HpackEncoder.maxBytes(headers));
    const w = this.#write;
    if (w === null) return;
    const from = this.#end + HEADER;
    const to = this.#encoder.encode(headers, w.bytes, from);
    this.#frameHeader(
      to - from,
      FRAME.HEADERS,
      FLAG.END_HEADERS | (isEnd ? FLAG.END_STREAM : 0),
      id,
    );
    this.#end = to;
  }

  #sendReset(id: number, code: number): void {
    const o = this.#beginControl(4, FRAME.RST_STREAM, 0, id);
    this.#write?.bytes.writeUInt32BE(code, o);
  }

  #sendWindowUpdate(id: number, increment: number): void {
    const o = this.#beginControl(4, FRAME.WINDOW_UPDATE, 0, id);
    this.#write?.bytes.writeUInt32BE(increment, o);
  }

  #sendGoAway(lastId: number, code: number): void {
    const o = this.#beginControl(8, FRAME.GOAWAY, 0, 0);
    this.#write?.bytes.writeUInt32BE(lastId, o);
    this.#write?.bytes.writeUInt32BE(code, o + 4);
  }

  #sendPing(kind: number): void {
    const o = this.#beginControl(8, FRAME.PING, 0, 0);
    this.#write?.bytes.writeUInt32BE(kind, o);
    this.#write?.bytes.writeUInt32BE(0, o + 4);
  }

  /** Room for a control frame and its header; returns the offset of its payload. */
  #beginControl(length: number, type: number, flags: number, id: number): number {
    this.#ensureRoom(HEADER + length);
    const o = this.#end + HEADER;
    this.#frameHeader(length, type, flags, id);
    this.#end = o + length;
    return o;
  }

  /** Hot path. Writes nine bytes at `#end`, moves `#end` behind them, and asks for a flush. */
  #frameHeader(length: number, type: number, flags: number, id: number): void {
    const w = this.#write?.bytes;
    if (w === undefined) return;
    const o = this.#end;
    w[o] = length >> 16;
    w[o + 1] = length >> 8;
    w[o + 2] = length;
    w[o + 3] = type;
    w[o + 4] = flags;
    w[o + 5] = id >> 24;
    w[o + 6] = id >> 16;
    w[o + 7] = id >> 8;
    w[o + 8] = id;
    this.#end = o + HEADER;
    this.#reactor.flushLater(this);
  }

  #roomFor(bytes: number): number {
    return WRITE_SIZE - this.#end - bytes;
  }

  /** Control frames always fit: DATA leaves them room, and a peer that never reads is cut off. */
  #ensureRoom(bytes: number): void {
    this.#write ??= takeWriteBuffer();
    if (this.#roomFor(bytes) >= 0) return;
    this.flush();
    this.#write ??= takeWriteBuffer();
    if (this.#start > 0) this.#compact(this.#write);
    if (this.#roomFor(bytes) >= 0) return;
    this.#finish(new HboneError("HTTP2", "The peer does not read, and makes us answer"));
    this.#write = takeWriteBuffer(); // the caller still writes into it; the flush gives it back unsent
    this.#start = 0;
    this.#end = 0;
  }

  #compact(buffer: NativeBuffer): void {
    buffer.bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
  }

  #waitForRoom(stream: HboneStream): void {
    this.#reactor.flushLater(this);
    if (stream.isBlocked) return;
    stream.isBlocked = true;
    this.#blocked.push(stream);
  }

  #wakeBlocked(): void {
    if (this.#unopened.length > 0) this.#openWaiting();
    if (this.#blocked.length === 0 || this.#sendWindow <= 0) return;
    const woken = this.#blocked;
    this.#blocked = [];
    for (const stream of woken) {
      stream.isBlocked = false;
      this.#reactor.again(stream);
    }
  }

  #openWaiting(): void {
    while (
      this.#unopened.length > 0 &&
      this.streams.size < this.peerMaxStreams &&
      this.state === "open"
    ) {
      const next = this.#unopened[0];
      if (next === undefined || this.#roomFor(HpackEncoder.maxBytes(next.headers) + HEADER) < 0)
        return;
      this.#unopened.shift();
      if (next.stream.tunnel === this) this.#sendConnect(next.stream, next.headers);
    }
  }

  // — ending —

  #waitToPing(): void {
    this.#isPingOut = false;
    this.#timer?.cancel();
    this.#timer = this.#reactor.after(limit.PING_INTERVAL_MS, () => {
      this.#isPingOut = true;
      this.#sendPing(PING_ALIVE);
      this.#timer = this.#reactor.after(limit.PING_TIMEOUT_MS, () => this.#onPingTimeout());
    });
  }

  #onPingTimeout(): void {
    const reason = `No PING answer within ${limit.PING_TIMEOUT_MS} ms`;
    this.close(new HboneError("PING_TIMEOUT", reason));
  }

  /** The stream is no longer ours to serve; its owner may still hold the object. */
  #forget(stream: HboneStream): void {
    if (stream.streamId === 0) this.#unopened = this.#unopened.filter((u) => u.stream !== stream);
    else this.streams.delete(stream.streamId);
    stream.tunnel = null;
    if (stream === this.#dataStream) this.#dataStream = null;
    if (this.#unopened.length > 0) this.#openWaiting();
    if (this.isGoingAway) this.#closeWhenIdle();
  }

  get #isOver(): boolean {
    return this.streams.size === 0 && this.#unopened.length === 0 && !this.#isDrainPing;
  }

  /** In a turn of its own: a stream's last frames may just be on their way into the buffer. */
  #closeWhenIdle(): void {
    if (this.state !== "open" || !this.#isOver) return;
    this.#closeTask ??= { isQueued: false, onTurn: () => this.#closeIfStillIdle() };
    this.#reactor.again(this.#closeTask);
  }

  #closeIfStillIdle(): void {
    if (this.state !== "open" || !this.#isOver) return;
    if (!this.#isFinalGoAwaySent) {
      this.#sendGoAway(this.#lastPeerStreamId, ERROR.NO_ERROR);
      this.#isFinalGoAwaySent = true;
    }
    this.flush();
    if (this.#tls === null || this.#write !== null || this.#tls.isBlocked) return; // the flush that empties it comes back here
    this.#finish(new HboneError("CLOSING", "The tunnel has no streams left"), true);
  }

  #fail(code: number, what: string): void {
    if (this.state !== "open") return;
    this.#sendGoAway(this.#lastPeerStreamId, code);
    this.flush();
    const reason = `The peer broke HTTP/2: ${what} (${h2ErrorName(code)})`;
    this.#finish(new HboneError("HTTP2", reason), true);
  }

  #lost(): void {
    const reason = this.#tls?.refusal ?? "closed by peer";
    // a TLS 1.3 server refuses our certificate after our handshake has ended
    const isRefused = !this.#isGreeted && reason.includes("alert");
    this.#finish(
      new HboneError(isRefused ? "TLS" : "PEER_CLOSED", `The tunnel was lost: ${reason}`),
    );
  }

  /** @param isOrderly the peer gets time to read our last bytes */
  #finish(error: HboneError, isOrderly = false): void {
    if (this.state === "closed") return;
    const wasOpen = this.state === "open";
    this.state = "closed";
    this.#handshakeOver("closed");
    this.#timer?.cancel();
    this.#goAwayTimer?.cancel();
    this.#answerTimer?.cancel();
    let isBlocked = false;
    if (this.#tls !== null) {
      if (wasOpen) this.#tls.shutdown();
      ({ isBlocked } = this.#tls);
      this.#tls[Symbol.dispose]();
      this.#tls = null;
    }
    if (isOrderly && !isBlocked) new LingeringClose(this.#reactor, this.fd);
    else {
      this.#reactor.forget(this.fd);
      raw.close(this.fd);
    }
    if (this.#write !== null) this.#releaseWrite(this.#write);
    this.#part = null;
    this.#dataStream = null;
    this.#blocked.length = 0;
    const streams = [...this.streams.values(), ...this.#unopened.map((u) => u.stream)];
    this.streams.clear();
    this.#unopened.length = 0;
    if (wasOpen) this.#account.leave(this.#recvWindowSize, this.#reactor.steadyMs);
    for (const stream of streams) {
      stream.tunnel = null;
      stream.onReset(ERROR.CANCEL, error);
    }
    this.#owner.onClosed(this, error);
  }
}

const HEADER_LIMITS = { maxListBytes: limit.MAX_HEADER_BLOCK } as const;
