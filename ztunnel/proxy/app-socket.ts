// A socket from the proxy to the application of its pod, keeping the client's source address.
import { isIpv6, type Ip, type SocketAddr } from "#lib/net/ip.ts";
import { EAGAIN, SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import {
  bindFd,
  connectFd,
  connectState,
  setTransparent,
  tcpSocket,
  trySetOption,
} from "#lib/sys/socket.ts";
import type { Pod } from "./pod.ts";

/** The descriptor of a connect, mostly over at once since it leads into the same pod, or the errno that stopped it. */
export type AppSocket =
  | { readonly kind: "connecting" | "connected"; readonly fd: number }
  | { readonly kind: "failed"; readonly errno: number };

/**
 * Not the range from which clients' kernels choose (32768–60999): to connection tracking, a client's own plaintext
 * connection with the source port and destination of one of ours is ours, and it would hang until ours ends.
 * [first, count]
 */
const PORT_RANGES = [
  [10_240, 22_528],
  [61_000, 4_536],
] as const;
const PORTS = PORT_RANGES[0][1] + PORT_RANGES[1][1];
/** Source ports tried: more are only taken when this client has used nearly all of them within a minute. */
const MAX_TRIES = 16;
const EADDRINUSE = 98;
const EADDRNOTAVAIL = 99;

/** Somewhere else in every process: a predecessor's connections may still hold the ports it used. */
let lastPort = -1;

/**
 * Starts a connect to `target` inside the pod.
 * @param client its address becomes the source; null connects as the pod itself. When the kernel refuses
 *   the address the connect goes ahead without it, as in Istio.
 */
export function connectToApp(pod: Pod, target: SocketAddr, client: Ip | null): AppSocket {
  // the pod calling itself has no other source, and families cannot be mixed on one socket
  const isForeign = client !== null && client !== target.ip && isIpv6(client) === isIpv6(target.ip);
  return isForeign ? connectAs(pod, target, client) : connectFrom(pod, target, null);
}

/**
 * With source ports in turn. Left to itself the kernel searches for a free one, which takes milliseconds once a
 * client has used up half of them towards one destination (TIME_WAIT), at the expense of everybody on this thread.
 */
function connectAs(pod: Pod, target: SocketAddr, client: Ip): AppSocket {
  let got: AppSocket = { kind: "failed", errno: EADDRNOTAVAIL };
  for (let n = 0; n < MAX_TRIES; n++) {
    // one after the other, so that each rests as long as can be; elsewhere when one is taken
    const isElsewhere = lastPort < 0 || n > 0;
    lastPort = isElsewhere ? Math.floor(pod.context.random() * PORTS) : (lastPort + 1) % PORTS;
    got = connectFrom(pod, target, { ip: client, port: portAt(lastPort) });
    if (got.kind !== "failed" || got.errno !== EADDRNOTAVAIL) return got;
  }
  return got;
}

function portAt(index: number): number {
  const [[first, count], [second]] = PORT_RANGES;
  return index < count ? first + index : second + index - count;
}

/** EADDRNOTAVAIL: another connection of this source to this target has the port, or an application listens on it. */
function connectFrom(pod: Pod, target: SocketAddr, source: SocketAddr | null): AppSocket {
  let fd: number;
  try {
    pod.enter();
    fd = tcpSocket({
      family: isIpv6(target.ip) ? "ipv6" : "ipv4",
      mark: pod.context.config.packetMark,
    });
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return { kind: "failed", errno: error.errno };
  }
  let errno = 0;
  if (source !== null && setTransparent(fd, source.ip) === 0) {
    trySetOption(fd, "reuseAddr", 1); // towards another destination the port may be in use
    if (bindFd(fd, source) === EADDRINUSE) errno = EADDRNOTAVAIL;
  }
  if (errno === 0) errno = connectFd(fd, target);
  if (errno === 0) errno = connectState(fd);
  if (errno === 0) return { kind: "connected", fd };
  if (errno === EAGAIN) return { kind: "connecting", fd };
  closeFd(fd);
  return { kind: "failed", errno };
}
