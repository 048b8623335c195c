// A socket that leaves a pod: in its namespace, marked so that redirection lets it pass.
import { HboneError } from "#lib/hbone/errors.ts";
import { isIpv6, type SocketAddr } from "#lib/net/ip.ts";
import { SysError } from "#lib/sys/errors.ts";
import { setKeepalive, tcpSocket } from "#lib/sys/socket.ts";
import type { Pod } from "./pod.ts";

/** Not yet connected. The caller owns it. @throws {HboneError} CONNECT */
export function podSocket(pod: Pod, to: SocketAddr): number {
  const { config } = pod.context;
  try {
    pod.enter();
    const fd = tcpSocket({ family: isIpv6(to.ip) ? "ipv6" : "ipv4", mark: config.packetMark });
    if (config.keepalive !== null)
      setKeepalive(fd, config.keepalive.idle, config.keepalive.interval, config.keepalive.count);
    return fd;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    throw new HboneError("CONNECT", `no socket in the pod's namespace: ${error.message}`);
  }
}
