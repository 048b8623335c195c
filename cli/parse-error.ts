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

/** `null` when `error` is something else. */
export function explainParseError(error: unknown): CliError | null {
  const flag = error instanceof Error ? FLAG_VALUE.exec(error.message) : null;
  if (flag !== null && error instanceof CliError)
    return new CliError(error.code, `${flag[1]}: ${flag[2]}`, error.hints, error);
  if (flag !== null) return new CliError("USAGE", `${flag[1]}: ${flag[2]}`, [], error);
  if (!isParseError(error)) return null;
  if (error.cause instanceof CliError) return error.cause;
  const [first = "", ...more] = error.message
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("See more help"));
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
  return new CliError("USAGE", first, more.length === 0 ? ["--help shows the usage"] : more, error);
}

function isParseError(error: unknown): error is ParseError {
  return error instanceof Error && "parse" in error && typeof error.parse === "object";
}
