// `--watch` of commands that read lists: look again every second, and say only what has changed.
import { systemClock } from "#lib/base/clock.ts";

export const WATCH_INTERVAL_MS = 1_000;

/**
 * Calls `look` until `signal` aborts and hands each answer that differs from the one before to `show`.
 * @param keyOf  equal texts for equal answers: ages and times left out
 */
export async function repeat<T>(
  look: () => Promise<T>,
  keyOf: (value: T) => string,
  show: (value: T, isFirst: boolean) => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  let last: string | null = null;
  while (!signal.aborted) {
    const value = await look();
    const key = keyOf(value);
    if (key !== last) await show(value, last === null);
    last = key;
    await systemClock.sleep(WATCH_INTERVAL_MS, signal).catch(() => undefined);
  }
}
