// Runs command lines in-process with captured output, for tests.
import { join } from "node:path";
import type { Io } from "../io.ts";
import { runAmbit } from "../program.ts";

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Noon of the day on which the recorded data was made. */
export const NOON = Date.parse("2026-06-01T12:00:00Z");

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly signal?: AbortSignal;
  /** Told of every piece of stdout as it is written. */
  readonly onOut?: (chunk: string) => void;
  /** The time of day; NOON without. */
  readonly now?: () => number;
}

/** `line`: words separated by spaces; `%` at a word's start is this folder. */
export async function ambit(
  line: string | readonly string[],
  options: RunOptions = {},
): Promise<Ran> {
  const words = typeof line === "string" ? line.split(" ").filter((w) => w !== "") : line;
  const argv = words.map((w) => w.replace(/^%/, `${import.meta.dirname}/`));
  let stdout = "";
  let stderr = "";
  const io: Io = {
    async out(chunk) {
      stdout += chunk;
      options.onOut?.(chunk);
    },
    err: (text) => void (stderr += `${text}\n`),
    stdin: async () => options.stdin ?? "",
    env: { AMBIT_LAB: join(import.meta.dirname, "no-lab"), ...options.env },
    signal: options.signal ?? new AbortController().signal,
    ignoreInterrupts: () => undefined,
    stdoutIsTty: false,
    stdinIsTty: false,
    ask: async () => "",
    now: options.now ?? (() => NOON),
  };
  const code = await runAmbit(argv, io);
  return { code, stdout, stderr };
}
