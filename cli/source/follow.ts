// A ztunnel's event stream across its restarts: connect again, and go on after the last event seen.
import { systemClock, type Clock } from "#lib/base/clock.ts";
import { Backoff } from "#lib/base/backoff.ts";
import type { MeshSource } from "./mesh-source.ts";

const RETRY = { startMs: 250, maxMs: 5_000 } as const;

export interface FollowOptions {
  /** Begin with what the ztunnel remembers, instead of with what happens from now on. */
  readonly history: boolean;
  readonly signal: AbortSignal;
  /** Said once per interruption. */
  readonly onLost: (node: string, error: Error) => void;
  readonly clock?: Clock;
}

/**
 * Lines of `/ambit/events` until `signal` aborts. A live ztunnel that never answered is an error; one that stops
 * is waited for. What it repeats from its memory after that is left out.
 * @param timeOf  the RFC 3339 time of a line
 */
export async function* follow(
  source: MeshSource,
  node: string,
  timeOf: (line: string) => string,
  { history, signal, onLost, clock = systemClock }: FollowOptions,
): AsyncIterable<string> {
  if (source.confidence === "snapshot") return yield* source.lines(node, "/ambit/events", signal);
  const backoff = new Backoff(RETRY);
  let resumeAfter = "";
  let latest = history ? "" : new Date(clock.now()).toISOString();
  let wasConnected = false;
  while (!signal.aborted) {
    let failure = new Error("the event stream ended");
    try {
      // Without a number the stream begins now; from 0 on, with all that is still remembered.
      const path = history || wasConnected ? "/ambit/events?since=0" : "/ambit/events";
      for await (const line of source.lines(node, path, signal)) {
        wasConnected = true;
        backoff.reset();
        const time = timeOf(line);
        if (time <= resumeAfter) continue;
        if (time > latest) latest = time;
        yield line;
      }
    } catch (error) {
      if (!wasConnected) throw error;
      failure = error instanceof Error ? error : failure;
    }
    if (signal.aborted) return;
    if (resumeAfter !== latest || !wasConnected) onLost(node, failure);
    wasConnected = true;
    resumeAfter = latest;
    await clock.sleep(backoff.next(), signal);
  }
}
