// TCP and UDP sockets with what Node does not offer: namespace, mark, transparent binding, original
// destination. All non-blocking and close-on-exec. Failures are SysErrors; on the hot path they are numbers.
import type { Ip, SocketAddr } from "../net/ip.ts";
import { check, EAGAIN, EINPROGRESS, EINTR, lastErrno, SysError } from "./errors.ts";
import { nativeBuffer } from "./memory.ts";
import { inNetns, type NetnsFd } from "./netns.ts";
import * as raw from "./raw.ts";
import {
  AF_INET,
  AF_INET6,
  armScratch,
  decodeSockaddr,
  encodeSockaddr,
  familyOf,
  scratchAddress,
  scratchLengthAddress,
} from "./sockaddr.ts";

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const FLAGS = 0o4000 | 0o2000000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const SOL_IP = 0;
const SOL_SOCKET = 1;
const SOL_TCP = 6;
const SOL_IPV6 = 41;
const SO_ORIGINAL_DST = 80;

/** [level, name] of the integer options used here. */
const OPTION = {
  reuseAddr: [SOL_SOCKET, 2],
  reusePort: [SOL_SOCKET, 15],
  mark: [SOL_SOCKET, 36],
  error: [SOL_SOCKET, 4],
  keepAlive: [SOL_SOCKET, 9],
  linger: [SOL_SOCKET, 13],
  noDelay: [SOL_TCP, 1],
  keepIdle: [SOL_TCP, 4],
  keepInterval: [SOL_TCP, 5],
  keepCount: [SOL_TCP, 6],
  userTimeout: [SOL_TCP, 18],
  notSentLowat: [SOL_TCP, 25],
  ipTransparent: [SOL_IP, 19],
  ipBindAddressNoPort: [SOL_IP, 24],
  v6Only: [SOL_IPV6, 26],
  ipv6Transparent: [SOL_IPV6, 75],
} as const satisfies Record<string, readonly [number, number]>;

export type SocketOption = keyof typeof OPTION;

const value = nativeBuffer(16);

/** Sets an integer option. Returns 0 or the errno. */
export function trySetOption(fd: number, option: SocketOption, number: number): number {
  const [level, name] = OPTION[option];
  value.bytes.writeInt32LE(number, 0);
  return raw.setsockopt(fd, level, name, value.address, 4) < 0 ? lastErrno() : 0;
}

/** @throws {SysError} */
export function setOption(fd: number, option: SocketOption, number: number): void {
  const errno = trySetOption(fd, option, number);
  if (errno !== 0) throw new SysError("setsockopt", errno, option);
}

/** SO_ERROR: how a non-blocking connect ended; 0 when it succeeded. */
export function socketError(fd: number): number {
  const [level, name] = OPTION.error;
  value.bytes.writeUInt32LE(4, 4);
  if (raw.getsockopt(fd, level, name, value.address, value.address + 4) < 0) return lastErrno();
  return value.bytes.readInt32LE(0);
}

/** TCP keepalive in seconds, as all connecting sockets of the mesh carry it. */
export function setKeepalive(fd: number, idle: number, interval: number, count: number): void {
  trySetOption(fd, "keepAlive", 1);
  trySetOption(fd, "keepIdle", idle);
  trySetOption(fd, "keepInterval", interval);
  trySetOption(fd, "keepCount", count);
}

export interface TcpSocketOptions {
  readonly family: "ipv4" | "ipv6";
  readonly mark?: number;
  readonly netns?: NetnsFd;
}

/** A TCP socket, TCP_NODELAY set. The caller owns it. @throws {SysError} */
export function tcpSocket(options: TcpSocketOptions): number {
  const family = options.family === "ipv6" ? AF_INET6 : AF_INET;
  const fd = socketIn(options.netns, family, SOCK_STREAM);
  return guarded(fd, () => {
    trySetOption(fd, "noDelay", 1);
    if (options.mark !== undefined) setOption(fd, "mark", options.mark);
  });
}

export interface ListenOptions {
  /** `::` listens on IPv4 as well unless `v6only`. */
  readonly ip: Ip;
  readonly port: number;
  readonly mark?: number;
  readonly reusePort?: boolean;
  /** Best effort: `isTransparent` tells the outcome through `onTransparent`. */
  readonly transparent?: boolean;
  readonly onTransparent?: (allowed: boolean) => void;
  readonly backlog?: number;
  readonly v6only?: boolean;
  readonly netns?: NetnsFd;
}

/** A listening TCP socket. The caller owns it. @throws {SysError} naming the address */
export function listenTcp(options: ListenOptions): number {
  const fd = boundSocket(options, SOCK_STREAM);
  return guarded(fd, () => {
    check("listen", raw.listen(fd, options.backlog ?? 128), `port ${options.port}`);
  });
}

/** A bound UDP socket. The caller owns it. @throws {SysError} naming the address */
export function bindUdp(options: Omit<ListenOptions, "backlog" | "transparent">): number {
  return boundSocket(options, SOCK_DGRAM);
}

/** An unbound, unconnected UDP socket. The caller owns it. @throws {SysError} */
export function udpSocket(options: TcpSocketOptions): number {
  const family = options.family === "ipv6" ? AF_INET6 : AF_INET;
  const fd = socketIn(options.netns, family, SOCK_DGRAM);
  return guarded(fd, () => {
    if (options.mark !== undefined) setOption(fd, "mark", options.mark);
  });
}

/** Starts a connect. Returns 0 when connected or under way, else the errno. */
export function connectFd(fd: number, addr: SocketAddr): number {
  const length = encodeSockaddr(addr);
  if (raw.connect(fd, scratchAddress, length) >= 0) return 0;
  const errno = lastErrno();
  return errno === EINPROGRESS || errno === EINTR ? 0 : errno;
}

/** How a connect stands: 0 when it has succeeded, EAGAIN while it is under way, else the errno that ended it. */
export function connectState(fd: number): number {
  return raw.write(fd, scratchAddress, 0) < 0 ? lastErrno() : 0;
}

/** Binds to a source address. Returns 0 or the errno. */
export function bindFd(fd: number, addr: SocketAddr): number {
  const length = encodeSockaddr(addr);
  return raw.bind(fd, scratchAddress, length) < 0 ? lastErrno() : 0;
}

/** Lets `fd` bind to an address that is not this host's; FREEBIND is part of it. Returns 0 or the errno. */
export function setTransparent(fd: number, ip: Ip): number {
  return trySetOption(fd, familyOf(ip) === AF_INET ? "ipTransparent" : "ipv6Transparent", 1);
}

export interface Accepted {
  readonly fd: number;
  readonly peer: SocketAddr;
}

/** Takes one waiting connection; `null` when none is left. @throws {SysError} e.g. EMFILE */
export function accept(listener: number): Accepted | null {
  for (;;) {
    armScratch();
    const fd = raw.accept4(listener, scratchAddress, scratchLengthAddress, FLAGS);
    if (fd >= 0) return { fd, peer: decodeSockaddr() };
    const errno = lastErrno();
    if (errno === EAGAIN) return null;
    // EINTR, ECONNABORTED and the network errors of accept(2) concern one connection only
    if (
      errno === 24 ||
      errno === 23 ||
      errno === 12 ||
      errno === 105 ||
      errno === 9 ||
      errno === 22
    )
      throw new SysError("accept", errno);
  }
}

/** @throws {SysError} */
export function localAddr(fd: number): SocketAddr {
  armScratch();
  check("getsockname", raw.getsockname(fd, scratchAddress, scratchLengthAddress));
  return decodeSockaddr();
}

/** Where a redirected connection was going: the kernel's record, or the local address. @throws {SysError} */
export function originalDst(fd: number): SocketAddr {
  armScratch();
  if (raw.getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, scratchAddress, scratchLengthAddress) >= 0)
    return decodeSockaddr();
  armScratch();
  if (raw.getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST, scratchAddress, scratchLengthAddress) >= 0)
    return decodeSockaddr();
  return localAddr(fd);
}

/** When it is closed, a RST will go out instead of a FIN, and no TIME_WAIT will keep the port. */
export function resetOnClose(fd: number): void {
  value.bytes.writeInt32LE(1, 0);
  value.bytes.writeInt32LE(0, 4);
  const [level, name] = OPTION.linger;
  raw.setsockopt(fd, level, name, value.address, 8);
}

/** Closes with a RST instead of a FIN. */
export function closeWithReset(fd: number): void {
  resetOnClose(fd);
  raw.close(fd);
}

function boundSocket(options: Omit<ListenOptions, "backlog">, type: number): number {
  const family = familyOf(options.ip);
  const fd = socketIn(options.netns, family, type);
  return guarded(fd, () => {
    if (type === SOCK_STREAM) setOption(fd, "reuseAddr", 1);
    if (options.reusePort === true) setOption(fd, "reusePort", 1);
    if (options.mark !== undefined) setOption(fd, "mark", options.mark);
    if (family === AF_INET6) setOption(fd, "v6Only", options.v6only === true ? 1 : 0);
    if (options.transparent === true)
      options.onTransparent?.(trySetOption(fd, "ipTransparent", 1) === 0);
    const errno = bindFd(fd, options);
    if (errno !== 0) throw new SysError("bind", errno, `${options.ip} port ${options.port}`);
  });
}

function socketIn(netns: NetnsFd | undefined, family: number, type: number): number {
  const open = (): number => check("socket", raw.socket(family, type | FLAGS, 0));
  return netns === undefined ? open() : inNetns(netns, open);
}

function guarded(fd: number, setUp: () => void): number {
  try {
    setUp();
    return fd;
  } catch (error) {
    raw.close(fd);
    throw error;
  }
}
