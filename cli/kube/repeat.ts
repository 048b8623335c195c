// `--watch` of commands that read lists: look again every second, and say only what has changed.
import { systemClock } from "#lib/base/clock.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";

export const WATCH_INTERVAL_MS = 1_000;

/**
 * Calls `look` until the signal aborts and hands each answer that differs from the one before to `show`. Once there was
 * an answer, a time without any is said once and waited out; before that it is the command's failure.
 * @param keyOf  equal texts for equal answers: ages and times left out
 */
export async function repeat<T>(
  look: () => Promise<T>,
  keyOf: (value: T) => string,
  show: (value: T, isFirst: boolean) => Promise<unknown>,
  { signal, err }: Pick<Io, "signal" | "err">,
): Promise<void> {
  let last: string | null = null;
  let isSilent = false;
  while (!signal.aborted) {
    try {
      const value = await look();
      const key = keyOf(value);
      if (key !== last) await show(value, last === null);
      last = key;
      isSilent = false;
    } catch (error) {
      if (signal.aborted) return;
      if (last === null || !isPassing(error)) throw error;
      if (!isSilent) err(`warning: ${(error as Error).message}; asking again`);
      isSilent = true;
    }
    await systemClock.sleep(WATCH_INTERVAL_MS, signal).catch(() => undefined);
  }
}

function isPassing(error: unknown): boolean {
  if (error instanceof KubeError) return error.code === "UNAVAILABLE" || error.code === "TIMEOUT";
  return error instanceof CliError && error.code === "UNREACHABLE";
}
