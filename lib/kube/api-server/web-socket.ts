// The client's half of RFC 6455 over a connection that was upgraded: messages in, messages out. Only what
// the API server's streams (port-forward, exec) need.
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { KubeError } from "../errors.ts";
import type { Upgraded } from "./api-server.ts";

const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const FIN = 0x80;
const MASKED = 0x80;
const OPCODE_BITS = 0x0f;
const LENGTH_BITS = 0x7f;
/** Streams are cut into far smaller messages (32 KiB). */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** Status 1000 (section 7.4.1). */
const NORMAL_CLOSURE = Buffer.from([0x03, 0xe8]);
const GOODBYE_MS = 1_000;

//  byte 0: FIN, opcode │ byte 1: MASK, length │ 2 or 8 bytes of length (126, 127) │ 4 bytes of mask │ payload

/** Owns the socket. */
export class WebSocket implements Disposable {
  readonly protocol: string;
  readonly #socket: Duplex;
  readonly #head: Buffer;
  #isClosed = false;

  constructor({ socket, head, protocol }: Upgraded) {
    this.#socket = socket;
    this.#head = head;
    this.protocol = protocol;
    socket.on("error", () => {}); // told by whoever reads or writes
  }

  /** Resolves when more may be sent. @throws {KubeError} `UNAVAILABLE` when the connection is gone */
  send(payload: Buffer): Promise<void> {
    return this.#write(OPCODE.binary, payload);
  }

  /**
   * The payload of each message until the server closes. Reading pushes back: while nobody asks, the
   * socket is paused.
   * @throws {KubeError} `UNAVAILABLE` when the connection breaks off or speaks nonsense
   */
  async *messages(): AsyncGenerator<Buffer, void, undefined> {
    let buffer = this.#head;
    let fragments: Buffer[] = [];
    let size = 0;
    const chunks = (this.#socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const frame = takeFrame(buffer);
        if (frame === null) {
          const { value, done } = await chunks.next();
          if (done === true) throw broken("the connection ended without a close frame");
          buffer = buffer.length === 0 ? value : Buffer.concat([buffer, value]);
          continue;
        }
        buffer = buffer.subarray(frame.end);
        switch (frame.opcode) {
          case OPCODE.close:
            await this.#write(OPCODE.close, frame.payload.subarray(0, 2)).catch(() => {});
            return;
          case OPCODE.ping:
            await this.#write(OPCODE.pong, frame.payload);
            break;
          case OPCODE.pong:
            break;
          case OPCODE.text:
          case OPCODE.binary:
          case OPCODE.continuation:
            size += frame.payload.length;
            if (size > MAX_MESSAGE_BYTES) throw broken(`a message of ${size} bytes`);
            fragments.push(frame.payload);
            if (!frame.isLast) break;
            yield fragments.length === 1 ? frame.payload : Buffer.concat(fragments);
            fragments = [];
            size = 0;
            break;
          default:
            throw broken(`a frame of type ${frame.opcode}`);
        }
      }
    } catch (cause) {
      if (cause instanceof KubeError) throw cause;
      throw broken("the connection broke off", cause);
    } finally {
      this[Symbol.dispose]();
    }
  }

  /** Says goodbye if the other side listens. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const socket = this.#socket;
    if (socket.destroyed) return;
    const late = setTimeout(() => socket.destroy(), GOODBYE_MS).unref();
    socket.once("close", () => clearTimeout(late));
    socket.end(frameOf(OPCODE.close, NORMAL_CLOSURE), () => socket.destroy());
  }

  #write(opcode: number, payload: Buffer): Promise<void> {
    const frame = frameOf(opcode, payload);
    return new Promise((resolve, reject) =>
      this.#socket.write(frame, (cause) =>
        cause ? reject(broken("the connection broke off", cause)) : resolve(),
      ),
    );
  }
}

/** Masked, as everything a client sends (RFC 6455, section 5.3). */
function frameOf(opcode: number, payload: Buffer): Buffer {
  const mask = randomBytes(4);
  const header = frameHeader(opcode, payload.length);
  const frame = Buffer.allocUnsafe(header.length + 4 + payload.length);
  header.copy(frame, 0);
  mask.copy(frame, header.length);
  const from = header.length + 4;
  for (let i = 0; i < payload.length; i++) frame[from + i] = (payload[i] ?? 0) ^ (mask[i & 3] ?? 0);
  return frame;
}

function frameHeader(opcode: number, length: number): Buffer {
  if (length < 126) return Buffer.from([FIN | opcode, MASKED | length]);
  const isLong = length > 0xffff;
  const header = Buffer.alloc(isLong ? 10 : 4);
  header[0] = FIN | opcode;
  header[1] = MASKED | (isLong ? 127 : 126);
  if (isLong) header.writeBigUInt64BE(BigInt(length), 2);
  else header.writeUInt16BE(length, 2);
  return header;
}

interface Frame {
  readonly opcode: number;
  readonly isLast: boolean;
  readonly payload: Buffer;
  /** Bytes of the buffer it took. */
  readonly end: number;
}

/** `null` while it is not complete. */
function takeFrame(buffer: Buffer): Frame | null {
  if (buffer.length < 2) return null;
  const [first = 0, second = 0] = buffer;
  if ((second & MASKED) !== 0) throw broken("a masked frame (RFC 6455, section 5.1)");
  let length = second & LENGTH_BITS;
  let at = 2;
  if (length === 126) {
    if (buffer.length < 4) return null;
    length = buffer.readUInt16BE(2);
    at = 4;
  } else if (length === 127) {
    if (buffer.length < 10) return null;
    const long = buffer.readBigUInt64BE(2);
    if (long > BigInt(MAX_MESSAGE_BYTES)) throw broken(`a frame of ${long} bytes`);
    length = Number(long);
    at = 10;
  }
  if (buffer.length < at + length) return null;
  return {
    opcode: first & OPCODE_BITS,
    isLast: (first & FIN) !== 0,
    payload: buffer.subarray(at, at + length),
    end: at + length,
  };
}

function broken(what: string, cause?: unknown): KubeError {
  const detail = cause === undefined ? {} : { cause };
  return new KubeError("UNAVAILABLE", `The stream through the API server: ${what}`, detail);
}
