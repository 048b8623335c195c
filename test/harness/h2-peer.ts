// A peer that speaks whatever HTTP/2 frames a test wants, over Node's TLS, and records what it is sent.
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type TLSSocket, type TlsOptions } from "node:tls";
import { FLAG, FRAME, FRAME_HEADER_BYTES, PREFACE } from "#lib/wire/http2.ts";

import { HpackDecoder } from "#lib/wire/hpack-decoder.ts";
import { HpackEncoder, type HeaderList } from "#lib/wire/hpack-encoder.ts";
import { encodeSettings, frameLength, frameStreamId, readUint32 } from "./h2-frames.ts";
import type { TestIdentity } from "./identities.ts";

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
  /** HEADERS only. */
  readonly headers: ReadonlyMap<string, string> | null;
}

export function frame(
  type: number,
  flags: number,
  id: number,
  payload: Uint8Array | string = "",
): Buffer {
  const body = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id >>> 0, 5);
  return Buffer.concat([head, body]);
}

export function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export const rstStream = (id: number, code: number): Buffer =>
  frame(FRAME.RST_STREAM, 0, id, word(code));
export const windowUpdate = (id: number, by: number): Buffer =>
  frame(FRAME.WINDOW_UPDATE, 0, id, word(by));
export const ping = (text = "pingpong", flags = 0): Buffer => frame(FRAME.PING, flags, 0, text);
export const goAway = (last: number, code = 0): Buffer =>
  frame(FRAME.GOAWAY, 0, 0, Buffer.concat([word(last), word(code)]));
export const data = (id: number, payload: Uint8Array | string, flags = 0): Buffer =>
  frame(FRAME.DATA, flags, id, payload);
export const settings = (...entries: (readonly [number, number])[]): Buffer =>
  Buffer.from(encodeSettings(entries));

export class H2Peer implements Disposable {
  readonly socket: TLSSocket;
  readonly frames: Frame[] = [];
  /** The other side has ended, in order or not. */
  isClosed = false;
  error: Error | null = null;
  /** Answers PING and SETTINGS as a peer must; off for one that falls silent. */
  isPolite = true;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: TLSSocket, prefaceLength: number) {
    this.socket = socket;
    let skip = prefaceLength;
    socket.on("data", (chunk: Buffer) => {
      const skipped = Math.min(skip, chunk.length);
      skip -= skipped;
      this.#onBytes(chunk.subarray(skipped));
    });
    socket.on("error", (error) => {
      this.error = error;
    });
    socket.on("close", () => {
      this.isClosed = true;
    });
    socket.on("end", () => {
      this.isClosed = true;
    });
  }

  /** A client; has sent its preface and `greeting` when it resolves, or nothing at all for `null`. */
  static async connect(
    port: number,
    identity: TestIdentity,
    greeting: Uint8Array | null = settings(),
    options: { ALPNProtocols?: string[] } = { ALPNProtocols: ["h2"] },
  ): Promise<H2Peer> {
    const socket = connect({
      host: "127.0.0.1",
      port,
      cert: identity.certPem,
      key: identity.keyPem,
      ca: identity.rootPem,
      checkServerIdentity: () => undefined,
      ...options,
    });
    socket.setNoDelay(true);
    const peer = new H2Peer(socket, 0);
    await once(socket, "secureConnect");
    if (greeting !== null) socket.write(Buffer.concat([PREFACE, greeting]));
    return peer;
  }

  send(...frames: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  headersFrame(id: number, headers: HeaderList, flags: number = FLAG.END_HEADERS): Buffer {
    return frame(FRAME.HEADERS, flags, id, this.encode(headers));
  }

  encode(headers: HeaderList): Buffer {
    const out = Buffer.alloc(HpackEncoder.maxBytes(headers));
    return out.subarray(0, this.#encoder.encode(headers, out, 0));
  }

  connectFrame(id: number, authority = "echo:80", flags: number = FLAG.END_HEADERS): Buffer {
    return this.headersFrame(
      id,
      [
        [":method", "CONNECT"],
        [":authority", authority],
      ],
      flags,
    );
  }

  of(type: number, id?: number): Frame[] {
    return this.frames.filter((f) => f.type === type && (id === undefined || f.id === id));
  }

  /** Code of the last GOAWAY; null while there is none. */
  get goAwayCode(): number | null {
    const last = this.of(FRAME.GOAWAY).at(-1);
    return last === undefined ? null : readUint32(last.payload, 4);
  }

  resetCode(id: number): number | null {
    const found = this.of(FRAME.RST_STREAM, id).at(-1);
    return found === undefined ? null : readUint32(found.payload, 0);
  }

  status(id: number): string | null {
    return this.of(FRAME.HEADERS, id).at(0)?.headers?.get(":status") ?? null;
  }

  payloadOf(id: number): Buffer {
    return Buffer.concat(this.of(FRAME.DATA, id).map((f) => f.payload));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #onBytes(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= FRAME_HEADER_BYTES) {
      const b = this.#rest;
      const end = FRAME_HEADER_BYTES + frameLength(b, 0);
      if (b.length < end) return;
      this.#rest = b.subarray(end);
      this.#onFrame(b[3] ?? 0, b[4] ?? 0, frameStreamId(b, 0), b.subarray(FRAME_HEADER_BYTES, end));
    }
  }

  #onFrame(type: number, flags: number, id: number, payload: Buffer): void {
    let headers: Map<string, string> | null = null;
    if (type === FRAME.HEADERS) {
      headers = new Map();
      const into = headers;
      this.#decoder.decode(payload, 0, payload.length, { maxListBytes: 65_536 }, (name, value) => {
        into.set(name, value);
      });
    }
    this.frames.push({ type, flags, id, payload, headers });
    if (!this.isPolite || (flags & FLAG.ACK) !== 0 || this.socket.destroyed) return;
    if (type === FRAME.PING) this.socket.write(frame(FRAME.PING, FLAG.ACK, 0, payload));
    if (type === FRAME.SETTINGS) this.socket.write(frame(FRAME.SETTINGS, FLAG.ACK, 0));
  }
}

/** A server of such peers. */
export class H2PeerServer implements Disposable {
  readonly port: number;
  readonly peers: H2Peer[] = [];
  readonly errors: Error[] = [];
  readonly #server: Server;

  private constructor(server: Server, greeting: Uint8Array) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on("secureConnection", (socket) => {
      socket.setNoDelay(true);
      const peer = new H2Peer(socket, PREFACE.length);
      this.peers.push(peer);
      peer.send(greeting);
    });
    server.on("tlsClientError", (error) => this.errors.push(error));
  }

  /** @param greeting the first frames sent */
  static async listen(
    identity: TestIdentity,
    greeting: Uint8Array = settings(),
    options: TlsOptions = { ALPNProtocols: ["h2"] },
  ): Promise<H2PeerServer> {
    const server = createServer({
      cert: identity.certPem,
      key: identity.keyPem,
      ca: identity.rootPem,
      requestCert: true,
      ...options,
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new H2PeerServer(server, greeting);
  }

  get peer(): H2Peer {
    const peer = this.peers.at(-1);
    if (peer === undefined) throw new Error("No peer has connected");
    return peer;
  }

  [Symbol.dispose](): void {
    for (const peer of this.peers) peer[Symbol.dispose]();
    this.#server.close();
  }
}
