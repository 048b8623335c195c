// Sockets from the waypoint to backends: ordinary ones of its own pod.
import { dialTunnel } from "#lib/proxy/dial.ts";
import { HboneError } from "#lib/hbone/errors.ts";
import type { IdentityContexts } from "#lib/proxy/identities.ts";
import type { Tunnel, TunnelOwner } from "#lib/hbone/tunnel.ts";
import type { HboneDecision } from "#lib/model/outbound.ts";
import { isIpv6, type SocketAddr } from "#lib/net/ip.ts";
import { SysError } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { connectFd, setKeepalive, tcpSocket, trySetOption } from "#lib/sys/socket.ts";
import type { WaypointContext } from "../context.ts";

/** A tunnel to a backend's node proxy, under this waypoint's own identity. @throws {HboneError} */
export function dialBackend(
  context: WaypointContext,
  contexts: IdentityContexts,
  { nextHop: to, expectedIdentities: identities }: HboneDecision,
  owner: TunnelOwner,
): Tunnel {
  const { reactor, peers, telemetry } = context;
  const { onHandshake } = telemetry;
  const fd = socketTo(context, to);
  return dialTunnel({
    reactor,
    fd,
    to,
    context: contexts.client,
    identities,
    peers,
    owner,
    onHandshake,
  });
}

/** A connect to a backend outside the mesh that has begun: its descriptor, or the errno that stopped it. */
export function connectPlain(
  context: WaypointContext,
  to: SocketAddr,
): { readonly fd: number } | { readonly errno: number } {
  let fd: number;
  try {
    fd = socketTo(context, to);
  } catch (error) {
    if (error instanceof HboneError && error.cause instanceof SysError)
      return { errno: error.cause.errno };
    throw error;
  }
  const errno = connectFd(fd, to);
  if (errno === 0) return { fd };
  closeFd(fd);
  return { errno };
}

/** @throws {HboneError} CONNECT */
function socketTo({ config }: WaypointContext, to: SocketAddr): number {
  try {
    const fd = tcpSocket({ family: isIpv6(to.ip) ? "ipv6" : "ipv4" });
    const { idle, interval, count } = config.keepalive;
    setKeepalive(fd, idle, interval, count);
    trySetOption(fd, "noDelay", 1);
    return fd;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    const failure = new HboneError("CONNECT", `no socket: ${error.message}`);
    failure.cause = error;
    throw failure;
  }
}
