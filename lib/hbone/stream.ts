// One CONNECT inside a tunnel, as its owner sees it. The tunnel calls the `on…` methods; the owner
// sends through `tunnel.reserve` and `tunnel.commit`, and says with `tunnel.consumed` what it got rid of.
import type { Task } from "#lib/sys/reactor.ts";
import type { HboneError } from "./errors.ts";
import { STREAM_WINDOW_START } from "./limits.ts";
import type { Tunnel } from "./tunnel.ts";

export abstract class HboneStream implements Task {
  isQueued = false;
  /** Null before the stream is opened and after it has ended. */
  tunnel: Tunnel | null = null;
  streamId = 0;
  /** Payload bytes the peer lets us send. */
  sendWindow = 0;
  /** Payload bytes the peer may still send. */
  recvWindow = STREAM_WINDOW_START;
  /** What `recvWindow` is refilled to. */
  recvWindowSize = STREAM_WINDOW_START;
  /** Consumed, but not yet granted again. */
  recvUngranted = 0;
  /** When the peer was last granted more; two grants close together make the window grow. */
  recvGrantedAtMs = 0;
  isLocalEnded = false;
  isRemoteEnded = false;
  /** Response headers were sent (server) or received (client). */
  isEstablished = false;
  /** Waits in the tunnel's list for room or for the connection window. */
  isBlocked = false;

  /** Client: when the request was made, in whole seconds of the steady clock: a small integer costs no object. */
  askedAtS = 0;

  /** Server: the reactor's turn in which it was answered; a reset in that same turn cannot know the answer. */
  answeredInTurn = -1;

  /** Client: the `x-ambit-denied` of a refusal, `<reason> <policy>`; null from peers that do not say. */
  deniedBy: string | null = null;

  /** Only a tunnel calls it: all as new, since another tunnel may have refused the stream before. */
  begin(tunnel: Tunnel, streamId: number, sendWindow: number): void {
    this.tunnel = tunnel;
    this.streamId = streamId;
    this.sendWindow = sendWindow;
    this.recvWindow = STREAM_WINDOW_START;
    this.recvWindowSize = STREAM_WINDOW_START;
    this.recvUngranted = 0;
    this.recvGrantedAtMs = 0;
    this.isLocalEnded = false;
    this.isRemoteEnded = false;
    this.isEstablished = false;
  }

  /** Client: the answer. Only 200 opens the tunnel; for any other status the stream has ended. */
  abstract onResponse(status: number): void;
  /** Hot path. Bytes `[offset, offset + length)` of the thread's read scratch; borrowed during the call. */
  abstract onData(offset: number, length: number): void;
  /** The peer has sent its last byte. */
  abstract onEnd(): void;
  /** The stream is over: reset by the peer with an HTTP/2 code, or lost with its tunnel. */
  abstract onReset(code: number, error: HboneError | null): void;
  /** There is room to send again, or a turn was asked for. */
  abstract onTurn(): void;
}
