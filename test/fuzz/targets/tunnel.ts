// A whole HBONE tunnel, server or client, in real TLS over loopback, sent frames that a peer may make up.
// Whatever comes, it ends once, every stream is told once, and nothing is kept.
import assert from "node:assert/strict";
import type { HboneError } from "#lib/hbone/errors.ts";
import { HboneStream } from "#lib/hbone/stream.ts";
import { type ConnectRequest, Tunnel, type TunnelOwner } from "#lib/hbone/tunnel.ts";
import { parseIp } from "#lib/net/ip.ts";
import { testCa } from "#lib/pki/test-ca.ts";
import { nativeBuffer } from "#lib/sys/memory.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { Reactor } from "#lib/sys/reactor.ts";
import { accept, connectFd, listenTcp, localAddr, setOption, tcpSocket } from "#lib/sys/socket.ts";
import { viewOf } from "#lib/sys/raw.ts";
import { TlsContext } from "#lib/sys/tls.ts";
import { PREFACE } from "#lib/wire/http2.ts";
import { hex, type FuzzTarget } from "../target.ts";
import { testIdentity } from "../../harness/identities.ts";

const LOOPBACK = parseIp("127.0.0.1");
const { material } = await testIdentity(await testCa(), ["spiffe://cluster.local/ns/a/sa/b"]);
const contexts = {
  client: new TlsContext(material, "client"),
  server: new TlsContext(material, "server"),
};
let nowMs = 0;
const reactor = new Reactor(() => nowMs);
const listener = listenTcp({ ip: LOOPBACK, port: 0 });
setOption(listener, "noDelay", 1); // accepted sockets inherit it: each piece arrives by itself
const { port } = localAddr(listener);
const wire = nativeBuffer(65_536);
const inbox = nativeBuffer(1_048_576);
const SETTINGS = Buffer.from("000000040000000000", "hex");
const MAX_TURNS = 500;

/** Answers, sends back what it gets, and counts what it is told. */
class EchoStream extends HboneStream {
  ends = 0;
  resets = 0;
  status = 0;

  onResponse(status: number): void {
    assert.equal(this.status, 0, "answered twice");
    this.status = status;
    this.onTurn();
  }

  onData(_offset: number, length: number): void {
    assert.ok(length > 0);
    assert.equal(this.ends + this.resets, 0, "payload after the end");
    this.tunnel?.consumed(this, length);
    this.onTurn();
  }

  onEnd(): void {
    assert.equal(this.ends + this.resets, 0, "an end after the end");
    this.ends++;
    this.tunnel?.endStream(this);
  }

  onReset(): void {
    assert.equal(this.resets, 0, "reset twice");
    assert.equal(this.tunnel, null);
    this.resets++;
  }

  onTurn(): void {
    const { tunnel } = this;
    if (tunnel === null || !this.isEstablished || this.isLocalEnded) return;
    const room = Math.min(tunnel.reserve(this), 100);
    if (room <= 0) return;
    new Uint8Array(viewOf(tunnel.payloadAddress, room)).fill(1);
    tunnel.commit(this, room);
  }
}

class Owner implements TunnelOwner {
  readonly streams: EchoStream[] = [];
  opened = 0;
  closed: HboneError | null = null;

  onOpen(): void {
    this.opened++;
  }

  onGoAway(): void {
    assert.equal(this.closed, null);
  }

  onClosed(tunnel: Tunnel, error: HboneError): void {
    assert.equal(this.closed, null, "closed twice");
    assert.equal(tunnel.streams.size, 0);
    this.closed = error;
  }

  onConnect(tunnel: Tunnel, streamId: number, request: ConnectRequest, isEnded: boolean): void {
    if (request.authority?.startsWith("no") === true) return tunnel.refuse(streamId, 503, isEnded);
    const stream = new EchoStream();
    this.streams.push(stream);
    tunnel.bind(stream, streamId, isEnded);
    if (request.authority?.startsWith("late") === true) return;
    tunnel.respond(stream, 200, [[":status", "200"]]);
  }
}

/** First byte: 1 plays the server against our client; 2 takes the rest as it is, else as short frames. */
function run(bytes: Uint8Array): string {
  nowMs += 5_000;
  const mode = bytes[0] ?? 0;
  const role = (mode & 1) === 0 ? "server" : "client";
  const frames = (mode & 2) === 0 ? framesOf(bytes.subarray(1)) : bytes.subarray(1);
  const fd = tcpSocket({ family: "ipv4" });
  connectFd(fd, { ip: LOOPBACK, port });
  const peerFd = turnUntil(() => accept(listener)?.fd ?? null);
  const owner = new Owner();
  const tunnel = new Tunnel({ reactor, fd, context: contexts[role], peerCheck: () => null, owner });
  const peer = contexts[role === "server" ? "client" : "server"].open(peerFd, () => null);
  if (role === "client")
    for (const authority of ["a:1", "no:1", "b:2"]) {
      const stream = new EchoStream();
      owner.streams.push(stream);
      tunnel.openStream(stream, [
        [":method", "CONNECT"],
        [":authority", authority],
      ]);
    }
  turnUntil(() => (peer.handshake() === "done" && owner.opened === 1 ? true : null));
  const all = Buffer.concat([role === "server" ? PREFACE : Buffer.alloc(0), SETTINGS, frames]);
  const step = 1 + (mode >> 2) * 97;
  for (let at = 0; at < all.length && tunnel.state === "open"; at += step) {
    const length = all.copy(wire.bytes, 0, at, at + step);
    if (peer.write(wire.address, length) <= 0) break;
    reactor.turn(0);
  }
  for (let quiet = 0; quiet < 4; ) {
    // all is read before the close: closing over unread bytes would reset the connection
    reactor.turn(0);
    quiet = peer.read(inbox.address, inbox.size) > 0 ? 0 : quiet + 1;
  }
  const streams = owner.streams.length;
  const answered = owner.streams.filter((stream) => stream.status !== 0).length;
  peer[Symbol.dispose]();
  closeFd(peerFd);
  turnUntil(() => owner.closed);
  for (const stream of owner.streams) {
    assert.equal(stream.tunnel, null, "a stream outlives its tunnel");
    const isOver = stream.resets > 0 || stream.ends > 0 || stream.status > 200;
    assert.ok(isOver || stream.isLocalEnded, "a stream that nobody ended");
  }
  const reason = owner.closed?.message.replaceAll(/\d+/g, "") ?? "";
  return `${role} ${Math.min(streams, 4)} ${answered} ${reason}`;
}

/** Short frames: type, flags, stream, length, then that many bytes. Damage stays within one of them. */
function framesOf(bytes: Uint8Array): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = Math.min(bytes[at + 3] ?? 0, bytes.length - at - 4);
    const head = Buffer.alloc(9);
    head.writeUIntBE(length, 0, 3);
    head[3] = bytes[at] ?? 0;
    head[4] = bytes[at + 1] ?? 0;
    head.writeUInt32BE(bytes[at + 2] ?? 0, 5);
    frames.push(head, Buffer.from(bytes.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return Buffer.concat(frames);
}

function turnUntil<T>(look: () => T | null): T {
  for (let i = 0; i < MAX_TURNS; i++) {
    const found = look();
    if (found !== null) return found;
    reactor.turn(i < 10 ? 0 : 1);
  }
  throw new Error("The tunnel does not end");
}

/** HPACK for `:method CONNECT`, `:authority` and a short name. */
const CONNECT = "0207434f4e4e454354 01";
const request = (id: string, name: string): string =>
  `01 04 ${id} ${(11 + name.length).toString(16).padStart(2, "0")} ${CONNECT} ${name.length
    .toString(16)
    .padStart(2, "0")} ${Buffer.from(name).toString("hex")}`;
const OPEN = request("01", "a:1");

export const target: FuzzTarget = {
  name: "tunnel",
  corpus: hex(
    `00 ${OPEN} 00 00 01 05 68656c6c6f 00 01 01 00`,
    `04 ${OPEN} 00 08 01 04 01 41 42 00 ${request("03", "late:1")} 03 00 03 04 00000008`,
    `fc ${OPEN} ${request("03", "no:1")} 08 00 03 04 00000001 08 00 00 04 00000001`,
    `00 ${OPEN} 04 00 00 06 000400000000 00 00 01 03 616263 04 00 00 06 0004000fffff`,
    `00 ${OPEN} 06 00 00 08 3132333435363738 07 00 00 08 0000000000000000`,
    `00 01 00 01 04 ${"02074f4e"} 09 04 01 00`,
    `00 ${OPEN} 02 00 01 05 0000000000 05 00 01 00 10 00 00 05 00000001 75 be ff 09 03 616263`,
    "01 01 04 01 01 88 00 00 01 05 68656c6c6f 00 01 01 00",
    "05 01 04 01 01 88 01 05 03 01 8d 03 00 03 04 00000000 03 00 05 04 00000007",
    "01 07 00 00 08 0000000300000000 01 04 01 01 88 00 01 01 00",
    "01 04 00 00 06 000300000001 01 04 01 01 88 04 00 00 06 000100000000 08 00 01 04 0000ffff",
    `02 ${"000008060000000000 3132333435363738"}`,
    "0200000001010000000100",
  ),
  words: ["\x88", "\x8d", "\0\0\x08", "\x7f\xff\xff\xff", "\x3f\xe1\x1f"],
  slowMs: 500, // a TLS handshake and hundreds of system calls a run
  refusals: [],
  run,
};
