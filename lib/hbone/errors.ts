// Why a tunnel or a stream ended. The proxies map these to response flags and reasons.

import { ERROR } from "#lib/wire/http2.ts";

export type HboneErrorCode =
  /** TCP to the peer failed: refused, reset, unreachable. */
  | "CONNECT"
  /** TCP to the peer's HBONE port did not answer in time; usually a NetworkPolicy. */
  | "CONNECT_TIMEOUT"
  /** The handshake failed; the message says why. */
  | "TLS"
  /** The peer's certificate does not carry an expected identity. */
  | "PEER_IDENTITY"
  /** The peer broke HTTP/2, or we had to end the connection to protect ourselves. */
  | "HTTP2"
  /** No PING answer in time. */
  | "PING_TIMEOUT"
  /** A CONNECT had no answer in time; the tunnel itself lives. */
  | "NO_ANSWER"
  /** The peer closed the connection. */
  | "PEER_CLOSED"
  /** The peer is going away and did not take this stream: nothing was delivered, another tunnel may be tried. */
  | "REFUSED"
  /** We are closing. */
  | "CLOSING";

export class HboneError extends Error {
  override readonly name = "HboneError";
  readonly code: HboneErrorCode;

  constructor(code: HboneErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export function h2ErrorName(code: number): string {
  return Object.entries(ERROR).find(([, value]) => value === code)?.[0] ?? `error ${code}`;
}
