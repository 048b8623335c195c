// oclif's complaints about a command line, in our words and with our exit code.
import { CliError } from "./errors.ts";
import { didYouMean } from "./suggest.ts";

/** The part of oclif's parse errors that is read here. */
interface ParseError extends Error {
  readonly parse: { readonly input?: { readonly flags?: Readonly<Record<string, unknown>> } };
  readonly flags?: readonly string[];
}

/** The sentence oclif wraps what a flag's own parser throws in. */
const FLAG_VALUE = /^Parsing (--\S+) \n\t([\s\S]*)\nSee more help with --help$/;

const USAGE_HINT = "--help shows the usage";

/** Advice of oclif's about flags that take several values: ours take one at a time. */
const NOISE = /^(See more help|Note: --.* allows? multiple|Alternatively, you can use "--")/;

/** `null` when `error` is something else. */
export function explainParseError(error: unknown): CliError | null {
  const flag = error instanceof Error ? FLAG_VALUE.exec(error.message) : null;
  if (flag !== null && error instanceof CliError)
    return new CliError(error.code, `${flag[1]}: ${flag[2]}`, error.hints, error);
  if (flag !== null) return new CliError("USAGE", `${flag[1]}: ${flag[2]}`, [], error);
  if (error instanceof Error && /^Flag \S+ expects a value$/.test(error.message))
    return new CliError("USAGE", error.message, [USAGE_HINT], error);
  if (!isParseError(error)) return null;
  if (error.cause instanceof CliError) return error.cause;
  const [first = "", ...more] = error.message
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !NOISE.test(line));
  if (error.flags !== undefined) {
    const known = Object.keys(error.parse.input?.flags ?? {}).map((name) => `--${name}`);
    const typed = error.flags.map((f) => f.split("=")[0] ?? f);
    return new CliError(
      "USAGE",
      `Unknown flag: ${typed.join(", ")}`,
      [...typed.flatMap((flag) => didYouMean(flag, known)), "--help lists the flags"],
      error,
    );
  }
  const missing = more.map((line) => /^Missing required flag (\S+)$/.exec(line)?.[1]);
  if (missing.some((name) => name !== undefined))
    return new CliError(
      "USAGE",
      `Missing: ${missing.flatMap((name) => (name === undefined ? [] : [`--${name}`])).join(", ")}`,
      [USAGE_HINT],
      error,
    );
  return new CliError("USAGE", first, [...more, USAGE_HINT], error);
}

function isParseError(error: unknown): error is ParseError {
  return error instanceof Error && "parse" in error && typeof error.parse === "object";
}
