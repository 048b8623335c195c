// What a command fails with: a stable code, an exit code, and what to do next.
// Every failure of this program ends as one of these, printed once, by program.ts.

/** Exit codes; README.md lists them for users. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  finding: 3,
  notFound: 4,
  timeout: 5,
  unreachable: 6,
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export type CliErrorCode =
  | "USAGE"
  | "UNKNOWN_COMMAND"
  | "BAD_INPUT"
  | "CONFLICT"
  | "FAILED"
  | "NOT_FOUND"
  | "TIMEOUT"
  | "UNREACHABLE"
  | "UNAUTHORIZED"
  | "FORBIDDEN"
  | "INTERRUPTED";

const EXIT_OF: Record<CliErrorCode, ExitCode> = {
  USAGE: EXIT.usage,
  UNKNOWN_COMMAND: EXIT.usage,
  BAD_INPUT: EXIT.failed,
  CONFLICT: EXIT.failed,
  FAILED: EXIT.failed,
  NOT_FOUND: EXIT.notFound,
  TIMEOUT: EXIT.timeout,
  UNREACHABLE: EXIT.unreachable,
  UNAUTHORIZED: EXIT.unreachable,
  FORBIDDEN: EXIT.unreachable,
  INTERRUPTED: EXIT.interrupted,
};

export class CliError extends Error {
  override readonly name = "CliError";
  readonly code: CliErrorCode;
  /** One line each: the command or change that helps. */
  readonly hints: readonly string[];

  constructor(code: CliErrorCode, message: string, hints: readonly string[] = [], cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.hints = hints;
  }

  get exitCode(): ExitCode {
    return EXIT_OF[this.code];
  }
}

/** istioctl's numbers for the two codes that differ, for scripts that expect them. */
export function exitStatus(
  code: number,
  env: Readonly<Record<string, string | undefined>>,
): number {
  if (env["AMBIT_ISTIOCTL_EXIT_CODES"] !== "1") return code;
  if (code === EXIT.usage) return 64;
  if (code === EXIT.finding) return 79;
  return code;
}

/** Why a file could not be read, in words where there are some. */
export function fileProblem(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
  return FILE_PROBLEMS[code] ?? code;
}

const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EISDIR: "it is a directory",
  ENOENT: "no such file",
  ENOTDIR: "no such file",
};
