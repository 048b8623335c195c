// Large messages of a server's stream written piece by piece. Node gives each connection a buffer for the most
// that was ever encrypted at once, and keeps it: a message of megabytes would cost each client as much for ever.
import type { Http2Stream } from "node:http2";

/** Four of the largest TLS records. */
const PIECE_BYTES = 64 * 1024;

type Written = (error?: Error | null) => void;

/**
 * @param call a grpc-js server call. What is under it has no public name: where it is not found, as after
 * an upgrade, messages go out whole
 */
export function paceWrites(call: object): void {
  const stream = streamUnder(call);
  if (stream === null) return;
  const write = stream.write.bind(stream);
  const paced = (chunk: unknown, written?: unknown): boolean => {
    const whole = Buffer.isBuffer(chunk) ? chunk : Buffer.alloc(0);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- grpc-js gives this or nothing
    const done = written as Written | undefined;
    if (whole.length <= PIECE_BYTES) return write(chunk, done);
    let sent = 0;
    const next: Written = (error) => {
      if (error !== undefined && error !== null) return done?.(error);
      const piece = whole.subarray(sent, sent + PIECE_BYTES);
      sent += piece.length;
      write(piece, sent < whole.length ? next : done);
    };
    next();
    return false; // who writes waits for `written`, as grpc-js does
  };
  Object.defineProperty(stream, "write", { value: paced, configurable: true });
}

function streamUnder(call: object): Http2Stream | null {
  const inner: unknown = "call" in call ? call.call : null;
  const stream: unknown =
    typeof inner === "object" && inner !== null && "stream" in inner ? inner.stream : null;
  const isStream =
    typeof stream === "object" && stream !== null && "write" in stream && "session" in stream;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the line above has looked
  return isStream ? (stream as Http2Stream) : null;
}
