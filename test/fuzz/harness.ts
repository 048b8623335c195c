// The fuzz loop of one target, run inside a worker (worker.ts) so that a hang or a full heap has a witness.
import { AssertionError } from "node:assert/strict";
import { seededRandom } from "#lib/wire/traceparent.ts";
import { Mutator } from "./mutate.ts";
import type { FuzzTarget } from "./target.ts";

export interface FuzzLimits {
  /** Largest input made. */
  readonly maxInputBytes: number;
  /** One run may take this much CPU time; a slower one is measured again before it counts. */
  readonly slowMs: number;
  /** Array buffers alive after a run. */
  readonly maxBufferBytes: number;
}

export const DEFAULT_LIMITS: FuzzLimits = {
  maxInputBytes: 16_384,
  slowMs: 50,
  maxBufferBytes: 256 * 1024 * 1024,
};

export interface FuzzFinding {
  readonly what: "throw" | "slow" | "memory" | "hang" | "crash";
  readonly detail: string;
  readonly input: Uint8Array;
}

export interface FuzzReport {
  readonly runs: number;
  /** How often each outcome was seen: the word `run` returned, or the code of a refusal. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly finding: FuzzFinding | null;
}

/** Inputs kept because their outcome was new. */
const MAX_LEARNED = 512;
const MAX_OUTCOMES = 1000;
/** Clock and memory are looked at once per so many runs, or the clock after a slow one. */
const CHECK_EVERY = 64;
const MEMORY_CHECK_EVERY = 4096;

/**
 * Runs the corpus as it is, then mutations of it until `deadlineMs` (on `performance.now()`) or a finding.
 * @param onInput told of each input before it runs
 */
export function fuzz(
  target: FuzzTarget,
  seed: number,
  deadlineMs: number,
  limits: FuzzLimits,
  onInput: (input: Uint8Array) => void,
): FuzzReport {
  const random = seededRandom([seed, ...nameSeed(target.name)]);
  const mutator = new Mutator(random, target.words ?? [], limits.maxInputBytes);
  const corpus = [...target.corpus];
  const outcomes = new Map<string, number>();
  for (let runs = 0; ; runs++) {
    const isGiven = runs < target.corpus.length;
    if (!isGiven && runs % CHECK_EVERY === 0 && performance.now() >= deadlineMs)
      return { runs, outcomes, finding: null };
    const input = isGiven ? target.corpus[runs]! : mutator.next(corpus);
    onInput(input);
    const result = runOnce(target, input, limits);
    if (typeof result !== "string") return { runs: runs + 1, outcomes, finding: result };
    const seen = outcomes.get(result);
    if (seen !== undefined) outcomes.set(result, seen + 1);
    else if (outcomes.size < MAX_OUTCOMES) {
      outcomes.set(result, 1);
      if (corpus.length < target.corpus.length + MAX_LEARNED) corpus.push(input);
    }
    if (runs % MEMORY_CHECK_EVERY === 0) {
      const { arrayBuffers } = process.memoryUsage();
      if (arrayBuffers > limits.maxBufferBytes)
        return {
          runs: runs + 1,
          outcomes,
          finding: { what: "memory", detail: `${arrayBuffers} octets of buffers`, input },
        };
    }
  }
}

/** One input; the outcome as a word, or a finding. */
export function runOnce(
  target: FuzzTarget,
  input: Uint8Array,
  limits: FuzzLimits,
): string | FuzzFinding {
  const slowMs = Math.max(limits.slowMs, target.slowMs ?? 0);
  const start = performance.now();
  const outcome = attempt(target, input);
  if (performance.now() - start <= slowMs) return outcome;
  // A collection, cold code or a busy machine makes one run slow; CPU time, four times in a row, is the parser's.
  let fastestMs = Number.POSITIVE_INFINITY;
  for (let again = 0; again < 4 && fastestMs > slowMs; again++) {
    const before = process.threadCpuUsage();
    attempt(target, input);
    const { user, system } = process.threadCpuUsage(before);
    fastestMs = Math.min(fastestMs, (user + system) / 1000);
  }
  if (fastestMs > slowMs)
    return { what: "slow", detail: `${fastestMs.toFixed(0)} ms, allowed ${slowMs}`, input };
  return outcome;
}

function attempt(target: FuzzTarget, input: Uint8Array): string | FuzzFinding {
  try {
    return target.run(input);
  } catch (error) {
    if (!isAlwaysWrong(error) && target.refusals.some((refusal) => error instanceof refusal))
      return refusalWord(error);
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { what: "throw", detail, input };
  }
}

/** A broken promise of the target's, or a full stack, whatever class it may refuse with. */
function isAlwaysWrong(error: unknown): boolean {
  return (
    error instanceof AssertionError ||
    (error instanceof RangeError && error.message.includes("call stack"))
  );
}

function refusalWord(error: unknown): string {
  if (!(error instanceof Error)) return "refused";
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return `refused ${error.name} ${code}`.trimEnd();
}

/** Targets of one seed differ, and adding a target changes no other. */
function nameSeed(name: string): [number, number, number] {
  let a = 0x811c_9dc5;
  for (let i = 0; i < name.length; i++) a = Math.imul(a ^ name.charCodeAt(i), 0x0100_0193);
  return [a, a ^ 0x9e37_79b9, name.length];
}
