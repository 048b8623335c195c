// What the fuzzer needs to know about one parser.

// oxlint-disable-next-line typescript/no-explicit-any -- any constructor, as `instanceof` takes it
export type ErrorClass = abstract new (...args: any[]) => Error;

export interface FuzzTarget {
  readonly name: string;
  /** Valid inputs and near misses to start from; small ones mutate best. */
  readonly corpus: readonly Uint8Array[];
  /** Words of the format, to be pasted in. */
  readonly words?: readonly string[];
  /** CPU time one run may take when the default is too strict; say why. */
  readonly slowMs?: number;
  /** Errors this parser may throw; every other one is a finding. */
  readonly refusals: readonly ErrorClass[];
  /**
   * Parses `bytes` and asserts what must hold afterwards (round trips, bounds).
   * Must not keep or change `bytes`, and must do the same for the same input.
   * @returns a short word for what happened; inputs that cause a new one are mutated further
   */
  run(bytes: Uint8Array): string;
}

export function utf8(...texts: readonly string[]): Uint8Array[] {
  return texts.map((text) => Buffer.from(text, "utf8"));
}

export function hex(...texts: readonly string[]): Uint8Array[] {
  return texts.map((text) => Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
}
