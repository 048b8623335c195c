// A tunnel to a peer's HBONE port, from a socket of the caller's making; who must answer is checked in the handshake.
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import { errnoName } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import type { Reactor } from "#lib/sys/reactor.ts";
import { connectFd } from "#lib/sys/socket.ts";
import type { TlsContext } from "#lib/sys/tls.ts";
import { HboneError } from "#lib/hbone/errors.ts";
import type { PeerBook } from "#lib/hbone/peer-book.ts";
import { type HandshakeObserver, Tunnel, type TunnelOwner } from "#lib/hbone/tunnel.ts";

export interface DialOptions {
  readonly reactor: Reactor;
  /** Not yet connected; taken, also when this throws. */
  readonly fd: number;
  readonly to: SocketAddr;
  readonly context: TlsContext;
  /** The peer must show one of these; none admits nobody. */
  readonly identities: readonly string[];
  readonly peers: PeerBook;
  readonly owner: TunnelOwner;
  readonly onHandshake: HandshakeObserver;
}

/** @throws {HboneError} CONNECT when it cannot even begin */
export function dialTunnel(options: DialOptions): Tunnel {
  const { reactor, fd, to, context, identities, peers, owner, onHandshake } = options;
  const errno = connectFd(fd, to);
  if (errno !== 0) {
    closeFd(fd);
    throw new HboneError("CONNECT", `connect to ${formatSocketAddr(to)}: ${errnoName(errno)}`);
  }
  return new Tunnel({
    reactor,
    fd,
    isConnecting: true,
    context,
    owner,
    peerCheck: (sans) =>
      sans.some((san) => identities.includes(san))
        ? null
        : `the peer shows ${sans.join(", ") || "no identity"}, expected ${identities.join(" or ") || "none"}`,
    peer: { book: peers, ip: to.ip },
    onHandshake,
  });
}
