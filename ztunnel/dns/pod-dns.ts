// The DNS server of one pod: UDP and TCP on port 15053 of its loopback, inside its namespace.
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { isIpv6, type Ip } from "#lib/net/ip.ts";
import { PORT } from "#lib/net/ports.ts";
import { closeFd, inNetns, type NetnsFd } from "#lib/sys/netns.ts";
import { bindUdp, listenTcp } from "#lib/sys/socket.ts";
import { DNS_HEADER_BYTES } from "#lib/wire/dns.ts";
import { DnsTcpReader, frameTcpMessage } from "#lib/wire/dns-tcp.ts";
import { hasIpv6Loopback } from "#lib/sys/ipv6-loopback.ts";
import type { DnsHandler } from "./handler.ts";

/** Queries of one pod that may be open at once; the next one is refused. */
const MAX_QUERIES = 256;
const MAX_CONNECTIONS = 64;
/** Queries under way in one TCP connection; reading stops until one is answered, and while answers are not read. */
const MAX_PIPELINED = 16;
const TCP_IDLE_MS = 5_000;
const NOTHING = new Uint8Array(0);
const LOOPBACK = ["127.0.0.1", "::1"] as Ip[];

export interface PodDnsOptions {
  readonly handler: DnsHandler;
  /** Borrowed while the server is open. Absent: the thread's own namespace. */
  readonly netns?: NetnsFd;
  readonly mark?: number;
  readonly reusePort: boolean;
  readonly ipv6Enabled: boolean;
  readonly port?: number;
}

/** Owns its sockets and every query that is open. */
export class PodDns implements Disposable {
  readonly #handler: DnsHandler;
  readonly #udp: UdpSocket[] = [];
  readonly #tcp: Server[] = [];
  readonly #connections = new Set<Socket>();
  readonly #end = new AbortController();
  #open = 0;
  #isDraining = false;

  private constructor(handler: DnsHandler) {
    this.#handler = handler;
  }

  /** @throws {SysError} when a port of the pod is taken; nothing stays open then */
  static listen(options: PodDnsOptions): PodDns {
    const { netns, mark, reusePort, handler } = options;
    const server = new PodDns(handler);
    const where = {
      port: options.port ?? PORT.dns,
      reusePort,
      ...(mark === undefined ? {} : { mark }),
      ...(netns === undefined ? {} : { netns }),
    };
    try {
      for (const ip of addresses(options)) {
        const port = server.#listenUdp(ip, { ...where, ip });
        server.#listenTcp({ ...where, ip, port, backlog: 128 });
        where.port = port;
      }
    } catch (error) {
      server[Symbol.dispose]();
      throw error;
    }
    return server;
  }

  /** The port in use, for tests that ask for port 0. */
  get port(): number {
    return this.#udp[0]?.address().port ?? 0;
  }

  /** Queries being worked on. */
  get open(): number {
    return this.#open;
  }

  /**
   * Leaves the port to its successor as soon as nothing is under way. Until then all is answered: the kernel goes on
   * giving this socket its share of the queries, and they would be lost in one that nobody reads.
   */
  drain(): void {
    for (const server of this.#tcp) server.close();
    this.#isDraining = true;
    this.#leaveWhenIdle();
  }

  #leaveWhenIdle(): void {
    if (!this.#isDraining || this.#open > 0) return;
    // after a turn in which what waits in the sockets was read
    setImmediate(() => {
      if (this.#open > 0) return;
      for (const socket of this.#udp.splice(0)) socket.close();
    });
  }

  [Symbol.dispose](): void {
    this.#end.abort();
    for (const socket of this.#udp.splice(0)) socket.close();
    for (const server of this.#tcp.splice(0)) server.close();
    for (const connection of this.#connections) connection.destroy();
  }

  #listenUdp(ip: Ip, where: Parameters<typeof bindUdp>[0]): number {
    const fd = bindUdp(where);
    const socket = createSocket(isIpv6(ip) ? "udp6" : "udp4");
    socket.on("error", () => {}); // ICMP errors of earlier answers: nobody waits for them any more
    socket.on("message", (message, peer) => void this.#onDatagram(socket, message, peer));
    this.#udp.push(socket);
    socket.bind({ fd, exclusive: true });
    return socket.address().port;
  }

  #listenTcp(where: Parameters<typeof listenTcp>[0]): void {
    const fd = listenTcp(where);
    const server = createServer({ noDelay: true }, (connection) => this.#onConnection(connection));
    server.on("error", () => {}); // accept(2) out of descriptors: the client tries again
    server.maxConnections = MAX_CONNECTIONS;
    this.#tcp.push(server);
    try {
      server.listen({ fd, exclusive: true });
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  async #onDatagram(socket: UdpSocket, message: Uint8Array, peer: RemoteInfo): Promise<void> {
    const answer = await this.#ask(message, "udp");
    if (answer === null || !this.#udp.includes(socket)) return;
    socket.send(answer, peer.port, peer.address, () => {}); // the client may be gone: weather
  }

  #onConnection(connection: Socket): void {
    const reader = new DnsTcpReader();
    let inFlight = 0;
    this.#connections.add(connection);
    connection.setTimeout(TCP_IDLE_MS, () => {
      if (inFlight === 0) connection.destroy();
    });
    connection.on("error", () => {});
    connection.on("close", () => this.#connections.delete(connection));
    const serve = (chunk: Uint8Array): void => {
      const room = connection.writableNeedDrain ? 0 : MAX_PIPELINED - inFlight;
      for (const message of reader.push(chunk, room)) {
        if (message.length < DNS_HEADER_BYTES) return void connection.destroy(); // this is not DNS
        inFlight++;
        void this.#ask(message, "tcp").then((answer) => {
          inFlight--;
          if (answer === null) return void connection.destroy();
          if (connection.destroyed) return;
          connection.write(frameTcpMessage(answer));
          serve(NOTHING);
        });
      }
      if (inFlight < MAX_PIPELINED && !connection.writableNeedDrain) connection.resume();
      else connection.pause();
    };
    connection.on("data", serve);
    connection.on("drain", () => serve(NOTHING));
  }

  /** Never rejects. */
  async #ask(message: Uint8Array, transport: "udp" | "tcp"): Promise<Uint8Array | null> {
    if (this.#open >= MAX_QUERIES) return this.#handler.refuse(message, transport);
    this.#open++;
    try {
      return await this.#handler.handle(message, transport, this.#end.signal);
    } catch {
      return this.#handler.refuse(message, transport); // e.g. a host name no label can carry
    } finally {
      this.#open--;
      this.#leaveWhenIdle();
    }
  }
}

/** Loopback addresses that exist in the pod: ::1 only where its `lo` has IPv6. */
function addresses(options: PodDnsOptions): Ip[] {
  if (!options.ipv6Enabled) return LOOPBACK.slice(0, 1);
  const hasIpv6 =
    options.netns === undefined ? hasIpv6Loopback() : inNetns(options.netns, hasIpv6Loopback);
  return hasIpv6 ? LOOPBACK : LOOPBACK.slice(0, 1);
}
