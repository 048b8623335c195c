// When to try again after a stream has ended: the table of xDS disconnects that Istio's ztunnel follows.
import type { StatusName } from "../grpc/errors.ts";

/** How a stream ended. `opened` is true once the server answered with response headers. */
export type StreamEnd =
  | {
      readonly kind: "status";
      readonly opened: boolean;
      readonly code: StatusName;
      readonly details: string;
    }
  /** The server closed the stream with status OK. */
  | { readonly kind: "complete" }
  /** Something on this side: a root file that cannot be read, for one. */
  | { readonly kind: "local"; readonly details: string };

/** Label values of `istio_xds_connection_terminations_total`. */
export type TerminationReason = "ConnectionError" | "Error" | "Reconnect" | "Complete";

export interface NextAttempt {
  readonly delayMs: number;
  readonly reason: TerminationReason;
}

const START_MS = 10;
const MAX_MS = 15_000;

/** Remembers the last delay; doubles from 10 ms up to 15 s, so the first failure waits 20 ms. No jitter. */
export class ReconnectPolicy {
  #lastMs = START_MS;

  next(end: StreamEnd): NextAttempt {
    switch (end.kind) {
      case "complete":
        this.#lastMs = START_MS;
        return { delayMs: 0, reason: "Complete" };
      case "local":
        // ztunnel retries at once; an unreadable file would then be read in a busy loop.
        return { delayMs: this.#double(), reason: "Error" };
      case "status":
        if (!end.opened) return { delayMs: this.#double(), reason: "ConnectionError" };
        if (!isExpected(end.code, end.details)) return { delayMs: this.#double(), reason: "Error" };
        this.#lastMs = START_MS;
        return { delayMs: START_MS, reason: "Reconnect" };
      default:
        return end satisfies never;
    }
  }

  #double(): number {
    this.#lastMs = Math.min(MAX_MS, this.#lastMs * 2);
    return this.#lastMs;
  }
}

/** Ends that happen in a healthy mesh: the server restarts, or rebalances its connections. */
function isExpected(code: StatusName, details: string): boolean {
  if (code === "UNKNOWN" || code === "CANCELLED" || code === "DEADLINE_EXCEEDED") return true;
  return (
    code === "UNAVAILABLE" &&
    /transport is closing|received prior goaway|connection dropped/i.test(details)
  );
}
