// The application behind every path: bulk sink, echo and HTTP on one port, in one thread without streams,
// so that it is not what a figure measures. Argument: the port. Prints "ready".
import { parseIp } from "#lib/net/ip.ts";
import { EAGAIN, lastErrno } from "#lib/sys/errors.ts";
import { nativeBuffer, type NativeBuffer } from "#lib/sys/memory.ts";
import * as raw from "#lib/sys/raw.ts";
import { EPOLLIN, Reactor, type FdHandler } from "#lib/sys/reactor.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import { accept, listenTcp, trySetOption } from "#lib/sys/socket.ts";
import { CHUNK_BYTES, COUNT, ECHO, HTTP, REQUEST, RESPONSE, SINK } from "./protocol.ts";

const port = Number(process.argv[2] ?? 8080);
const reactor = new Reactor();
/** Shared by all connections: nothing stays in it after a turn. */
const input = nativeBuffer(CHUNK_BYTES);
const response = copyOf(RESPONSE);
const count = nativeBuffer(8);
let sunk = 0;

class Connection implements FdHandler {
  readonly fd: number;
  #kind = 0;
  /** Of an HTTP request that is not complete. */
  #partial = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  onReady(): void {
    const got = raw.read(this.fd, input.address, input.size);
    if (got < 0 && lastErrno() === EAGAIN) return;
    if (got <= 0) return this.#end();
    const isFirst = this.#kind === 0;
    if (isFirst) this.#kind = input.bytes[0] ?? 0;
    switch (this.#kind) {
      case SINK:
        sunk += got;
        return;
      case ECHO: // at most what one client has in flight
        if (!isFirst) raw.write(this.fd, input.address, got);
        else if (got > 1) raw.write(this.fd, input.address + 1, got - 1);
        return;
      case HTTP:
        return this.#answer(got);
      case COUNT:
        count.bytes.writeBigUInt64BE(BigInt(sunk), 0);
        raw.write(this.fd, count.address, count.size);
        return;
      default:
        return this.#end();
    }
  }

  #answer(got: number): void {
    this.#partial += got;
    while (this.#partial >= REQUEST.length) {
      this.#partial -= REQUEST.length;
      raw.write(this.fd, response.address, response.size);
    }
  }

  #end(): void {
    reactor.forget(this.fd);
    raw.close(this.fd);
  }
}

function copyOf(bytes: Buffer): NativeBuffer {
  const copy = nativeBuffer(bytes.length);
  bytes.copy(copy.bytes);
  return copy;
}

raiseOpenFiles();
const listener = listenTcp({ ip: parseIp("0.0.0.0"), port, backlog: 4_096 });
reactor.add(listener, EPOLLIN, {
  onReady: () => {
    for (let got = accept(listener); got !== null; got = accept(listener)) {
      trySetOption(got.fd, "noDelay", 1);
      reactor.add(got.fd, EPOLLIN, new Connection(got.fd));
    }
  },
});
console.log("ready");
reactor.run();
