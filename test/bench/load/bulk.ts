// Streams that send as fast as they may, for a time. What arrives is counted at the server (`COUNT`): bytes in
// buffers on the way count for nothing.
import type { SocketAddr } from "#lib/net/ip.ts";
import { nativeBuffer } from "#lib/sys/memory.ts";
import { EPOLLIN, EPOLLOUT, Reactor } from "#lib/sys/reactor.ts";
import { CHUNK_BYTES, SINK } from "./protocol.ts";
import { LoadSocket } from "./socket.ts";

const chunk = nativeBuffer(CHUNK_BYTES);
chunk.bytes.fill(SINK);
const input = nativeBuffer(16);

/** @param onEnd  a stream ended before the time was over */
export function runBulk(target: SocketAddr, streams: number, ms: number, onEnd: () => void): void {
  const reactor = new Reactor();
  for (let i = 0; i < streams; i++) new BulkStream(reactor, target, onEnd);
  const deadline = Date.now() + ms;
  while (Date.now() < deadline) reactor.turn(100);
}

class BulkStream extends LoadSocket {
  readonly #onEnd: () => void;

  constructor(reactor: Reactor, target: SocketAddr, onEnd: () => void) {
    super(reactor, target);
    this.#onEnd = onEnd;
  }

  protected onConnected(): void {
    this.listenFor(EPOLLIN | EPOLLOUT);
  }

  protected override onWritable(): void {
    this.write(chunk.address, chunk.size);
  }

  protected onReadable(): void {
    this.read(input.address, input.size);
  }

  protected onFailed(): void {
    this.#onEnd();
  }
}
