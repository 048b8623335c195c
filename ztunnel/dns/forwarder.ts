// Passes a query on to the proxy's own name servers, byte for byte, over sockets that belong to the
// pod and carry the mark (so that capture leaves them alone). Only the id differs on the wire between.
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { Socket } from "node:net";
import { isIpv6, type SocketAddr } from "#lib/net/ip.ts";
import type { NetnsFd } from "#lib/sys/netns.ts";
import { tcpSocket, udpSocket } from "#lib/sys/socket.ts";
import { answersQuery, type DnsQuery } from "#lib/wire/dns.ts";
import { DnsTcpReader, frameTcpMessage } from "#lib/wire/dns-tcp.ts";
import type { ResolvConf } from "./resolv-conf.ts";

export type Transport = "udp" | "tcp";

export interface ForwarderOptions {
  /** Borrowed. Absent: the thread's own namespace. */
  readonly netns?: NetnsFd;
  readonly mark?: number;
  readonly resolvConf: () => ResolvConf;
}

/** TCP connect to a name server; the exchange has the resolver's timeout on top. */
const TCP_CONNECT_MS = 5_000;

export class Forwarder {
  readonly #options: ForwarderOptions;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /**
   * Asks each server in turn until one answers, over the transport the client used: an answer cut
   * short (TC) goes back as it is, and the client comes again over TCP.
   * @param message  the client's query, unchanged; borrowed
   * @returns the answer with the client's id, or null when no server answered
   */
  async ask(
    query: DnsQuery,
    message: Uint8Array,
    transport: Transport,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const { servers, timeoutMs, attempts } = this.#options.resolvConf();
    for (let attempt = 0; attempt < attempts; attempt++)
      for (const server of servers) {
        if (signal.aborted) return null;
        const answer = await this.#exchange(query, message, transport, server, timeoutMs, signal);
        if (answer === null) continue;
        setId(answer, query.id);
        return answer;
      }
    return null;
  }

  /** One question to one server. The id and, by the kernel, the source port are new each time. */
  #exchange(
    query: DnsQuery,
    message: Uint8Array,
    transport: Transport,
    server: SocketAddr,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const id = randomInt(0x1_0000);
    const copy = Uint8Array.from(message);
    setId(copy, id);
    const isAnswer = (bytes: Uint8Array): boolean => answersQuery({ ...query, id }, bytes);
    return transport === "udp"
      ? this.#overUdp(copy, server, timeoutMs, isAnswer, signal)
      : this.#overTcp(copy, server, timeoutMs, isAnswer, signal);
  }

  #overUdp(
    message: Uint8Array,
    server: SocketAddr,
    timeoutMs: number,
    isAnswer: (bytes: Uint8Array) => boolean,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const v6 = isIpv6(server.ip);
    const fd = this.#open(udpSocket, v6);
    if (fd === null) return Promise.resolve(null);
    const socket = createSocket(v6 ? "udp6" : "udp4");
    return settleOnce(
      timeoutMs,
      signal,
      () => socket.close(),
      (settle) => {
        socket.on("error", () => settle(null)); // refused, unreachable: the next server
        socket.on("message", (answer) => {
          if (isAnswer(answer)) settle(Uint8Array.from(answer));
        });
        socket.bind({ fd, exclusive: true });
        // Connected, so that the kernel drops what comes from anywhere else.
        socket.connect(server.port, server.ip, () => socket.send(message));
      },
    );
  }

  #overTcp(
    message: Uint8Array,
    server: SocketAddr,
    timeoutMs: number,
    isAnswer: (bytes: Uint8Array) => boolean,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const fd = this.#open(tcpSocket, isIpv6(server.ip));
    if (fd === null) return Promise.resolve(null);
    // Node reads at once unless told not to, and reading before connect(2) fails; its types omit the option.
    const socket = new Socket({ fd, manualStart: true } as ConstructorParameters<typeof Socket>[0]);
    const reader = new DnsTcpReader();
    return settleOnce(
      TCP_CONNECT_MS + timeoutMs,
      signal,
      () => socket.destroy(),
      (settle) => {
        socket.on("error", () => settle(null));
        socket.on("close", () => settle(null));
        socket.setTimeout(TCP_CONNECT_MS, () => settle(null));
        socket.on("data", (chunk: Buffer) => {
          for (const answer of reader.push(chunk)) if (isAnswer(answer)) return settle(answer);
        });
        socket.connect({ host: server.ip, port: server.port }, () => {
          socket.setTimeout(timeoutMs);
          socket.write(frameTcpMessage(message));
        });
      },
    );
  }

  /** Null when the namespace is gone or descriptors have run out: the query then fails like an unanswered one. */
  #open(make: typeof tcpSocket, v6: boolean): number | null {
    const { netns, mark } = this.#options;
    try {
      return make({
        family: v6 ? "ipv6" : "ipv4",
        ...(netns === undefined ? {} : { netns }),
        ...(mark === undefined ? {} : { mark }),
      });
    } catch {
      return null;
    }
  }
}

/** Runs `start` until it settles, time is up or `signal` aborts; then `close`. */
function settleOnce(
  timeoutMs: number,
  signal: AbortSignal,
  close: () => void,
  start: (settle: (answer: Uint8Array | null) => void) => void,
): Promise<Uint8Array | null> {
  return new Promise((resolve) => {
    let isSettled = false;
    const settle = (answer: Uint8Array | null): void => {
      if (isSettled) return;
      isSettled = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
      close();
      resolve(answer);
    };
    const cancel = (): void => settle(null);
    const timer = setTimeout(cancel, timeoutMs);
    signal.addEventListener("abort", cancel, { once: true });
    start(settle);
  });
}

/** @param message of at least a header */
function setId(message: Uint8Array, id: number): void {
  message[0] = id >> 8;
  message[1] = id & 0xff;
}
