// How a step of the demo observes: it notes what it did and saw, and a wrong observation ends the demo.
import { setTimeout as sleep } from "node:timers/promises";
import type { Line } from "./screen.ts";

const POLL_MS = 50;

export class StepError extends Error {
  override readonly name = "StepError";
}

/** Collects a step's lines. */
export class Notes {
  readonly lines: Line[] = [];

  did(text: string): void {
    this.lines.push({ kind: "did", text });
  }

  saw(text: string): void {
    this.lines.push({ kind: "saw", text });
  }

  show(text: string): void {
    this.lines.push({ kind: "text", text });
  }
}

/** @throws {StepError} */
export function expect(holds: boolean, what: string): asserts holds {
  if (!holds) throw new StepError(`Expected: ${what}`);
}

/**
 * Asks until there is an answer. Faults count as "not yet".
 * @throws {StepError} naming the last fault
 */
export async function eventually<T>(
  what: string,
  timeoutMs: number,
  ask: () => Promise<T | null | undefined | false> | T | null | undefined | false,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let last = "";
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== null && answer !== undefined && answer !== false) return answer;
    } catch (error) {
      last = ` (${(error as Error).message})`;
    }
    if (Date.now() > deadline)
      throw new StepError(`Expected within ${timeoutMs / 1000} s: ${what}${last}`);
    await sleep(POLL_MS);
  }
}
