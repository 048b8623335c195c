// Our HPACK against nghttp2's, as Node ships it: each side decodes what the other encoded, over one connection.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import type { ClientHttp2Session, IncomingHttpHeaders } from "node:http2";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { test } from "node:test";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import type { HeaderList } from "./hpack-encoder.ts";
import {
  encodeSettings,
  frameFlags,
  frameLength,
  frameStreamId,
  frameType,
  parseSettings,
  writeFrameHeader,
} from "../../test/harness/h2-frames.ts";
import { FLAG, FRAME, FRAME_HEADER_BYTES, PREFACE, SETTING } from "./http2.ts";

/** A server of a few lines: answers every CONNECT with 200 and the request's own headers. */
class EchoPeer {
  readonly seen: [string, string][][] = [];
  readonly #decoder = new HpackDecoder();
  readonly #encoder = new HpackEncoder();
  readonly #socket: Socket;
  #buffered = Buffer.alloc(0);
  #isOpen = false;

  constructor(socket: Socket, tableSize: number) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("error", () => {});
    socket.write(encodeSettings([[SETTING.HEADER_TABLE_SIZE, tableSize]]));
    this.#tableSize = tableSize;
  }
  readonly #tableSize: number;

  #onData(chunk: Buffer): void {
    this.#buffered = Buffer.concat([this.#buffered, chunk]);
    if (!this.#isOpen) {
      if (this.#buffered.length < PREFACE.length) return;
      assert.deepEqual(this.#buffered.subarray(0, PREFACE.length), PREFACE);
      this.#buffered = this.#buffered.subarray(PREFACE.length);
      this.#isOpen = true;
    }
    while (this.#buffered.length >= FRAME_HEADER_BYTES) {
      const end = FRAME_HEADER_BYTES + frameLength(this.#buffered, 0);
      if (this.#buffered.length < end) return;
      this.#onFrame(this.#buffered, end);
      this.#buffered = this.#buffered.subarray(end);
    }
  }

  #onFrame(frame: Buffer, end: number): void {
    const type = frameType(frame, 0);
    const flags = frameFlags(frame, 0);
    if (type === FRAME.SETTINGS && (flags & FLAG.ACK) !== 0)
      return this.#decoder.setMaxTableSize(this.#tableSize);
    if (type === FRAME.SETTINGS) {
      const violation = parseSettings(frame, FRAME_HEADER_BYTES, end, (id, value) => {
        if (id === SETTING.HEADER_TABLE_SIZE) this.#encoder.setMaxTableSize(value);
      });
      assert.equal(violation, null);
      const ack = Buffer.alloc(FRAME_HEADER_BYTES);
      writeFrameHeader(ack, 0, 0, FRAME.SETTINGS, FLAG.ACK, 0);
      this.#socket.write(ack);
    }
    if (type !== FRAME.HEADERS) return;
    assert.equal(flags & FLAG.END_HEADERS, FLAG.END_HEADERS);
    const start = FRAME_HEADER_BYTES + ((flags & FLAG.PRIORITY) !== 0 ? 5 : 0);
    const headers: [string, string][] = [];
    this.#decoder.decode(frame, start, end, { maxListBytes: 16_384 }, (name, value) =>
      headers.push([name, value]),
    );
    this.seen.push(headers);
    const answer: HeaderList = [
      [":status", "200"],
      ...headers.filter(([name]) => !name.startsWith(":")),
    ];
    const out = Buffer.alloc(FRAME_HEADER_BYTES + HpackEncoder.maxBytes(answer));
    const to = this.#encoder.encode(answer, out, FRAME_HEADER_BYTES);
    const done = FLAG.END_HEADERS | FLAG.END_STREAM;
    writeFrameHeader(out, 0, to - FRAME_HEADER_BYTES, FRAME.HEADERS, done, frameStreamId(frame, 0));
    this.#socket.write(out.subarray(0, to));
  }
}

/** The answer's headers to one CONNECT with `headers`. */
async function ask(
  session: ClientHttp2Session,
  authority: string,
  headers: Record<string, string>,
): Promise<IncomingHttpHeaders> {
  const stream = session.request({ ":method": "CONNECT", ":authority": authority, ...headers });
  const [answer] = (await once(stream, "response")) as [IncomingHttpHeaders];
  stream.destroy();
  return answer;
}

for (const [ours, theirs] of [
  [4096, 4096],
  [256, 128],
  [0, 0],
  [65_536, 65_536],
] as const)
  test(`nghttp2 and we understand each other, tables of ${ours} and ${theirs} octets`, {
    timeout: 10_000,
  }, async () => {
    const peers: EchoPeer[] = [];
    const server = createServer((socket) => peers.push(new EchoPeer(socket, ours)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {
      settings: { headerTableSize: theirs },
    });
    try {
      await once(session, "remoteSettings");
      for (let i = 0; i < 200; i++) {
        const authority = `10.0.${i % 7}.1:8080`;
        const headers = {
          baggage: `k8s.namespace.name=ns-${i % 3},service.name=${"x".repeat(i % 50)}`,
          traceparent: `00-${String(i).padStart(32, "0")}-${String(i).padStart(16, "1")}-00`,
          forwarded: `for="10.1.2.3:${i}"`,
          "x-octets": Array.from({ length: i % 20 }, (_, k) =>
            String.fromCharCode(0xa1 + ((i * k) % 90)),
          ).join(""),
        };
        const answer = await ask(session, authority, headers);
        const seen = new Map(peers[0]?.seen[i]);
        assert.equal(seen.get(":method"), "CONNECT");
        assert.equal(seen.get(":authority"), authority);
        assert.equal(answer[":status"], 200);
        for (const [name, value] of Object.entries(headers)) {
          assert.equal(seen.get(name), value);
          assert.equal(answer[name], value);
        }
      }
    } finally {
      session.destroy();
      server.close();
    }
  });
