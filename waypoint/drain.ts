// The end of a waypoint: clients are told to use another one, those who have not heard of it yet are still served, and
// open connections get their time.
import type { Clock } from "#lib/base/clock.ts";
import type { WaypointContext } from "./context.ts";
import type { HboneListener } from "./listen/hbone-listener.ts";

const LOOK_MS = 50;

/** Resolves when nothing is open any more, or at the deadline with everything cut. */
export async function drain(
  { config, live, pool }: WaypointContext,
  listener: HboneListener,
  clock: Clock,
): Promise<void> {
  const begun = clock.now();
  const since = (): number => clock.now() - begun;
  listener.drain();
  while (since() < Math.min(config.minDrainMs, config.drainDeadlineMs)) await clock.sleep(LOOK_MS);
  listener.close();
  // a tunnel without streams goes once its peer knows; until then the peer may still open one
  while (live.size + listener.tunnels.size > 0 && since() < config.drainDeadlineMs)
    await clock.sleep(LOOK_MS);
  const detail = "cut at the drain deadline";
  for (const connection of [...live]) connection.end({ flag: "-", reason: "drained", detail });
  listener.dispose(detail);
  pool[Symbol.dispose]();
}
