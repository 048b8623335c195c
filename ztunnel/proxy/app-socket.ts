// A socket from the proxy to the application of its pod, keeping the client's source address.
import { isIpv6, type Ip, type SocketAddr } from "#lib/net/ip.ts";
import { SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { bindFd, connectFd, setTransparent, tcpSocket, trySetOption } from "#lib/sys/socket.ts";
import type { Pod } from "./pod.ts";

/** The descriptor of a connect under way, or the errno that stopped it. */
export type AppSocket =
  | { readonly kind: "connecting"; readonly fd: number }
  | { readonly kind: "failed"; readonly errno: number };

/**
 * Starts a connect to `target` inside the pod.
 * @param client its address becomes the source; null connects as the pod itself. When the kernel refuses
 *   the address the connect goes ahead without it, as in Istio.
 */
export function connectToApp(pod: Pod, target: SocketAddr, client: Ip | null): AppSocket {
  // the pod calling itself has no other source, and families cannot be mixed on one socket
  const source =
    client === null || client === target.ip || isIpv6(client) !== isIpv6(target.ip) ? null : client;
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
  if (source !== null && setTransparent(fd, source) === 0) {
    trySetOption(fd, "ipBindAddressNoPort", 1);
    bindFd(fd, { ip: source, port: 0 });
  }
  const errno = connectFd(fd, target);
  if (errno === 0) return { kind: "connecting", fd };
  closeFd(fd);
  return { kind: "failed", errno };
}
