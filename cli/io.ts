// The program's surroundings as one value, so that tests run commands in-process.
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { EXIT } from "./errors.ts";

export interface Io {
  /** Data. Resolves when the reader may be given more. */
  out(chunk: string): Promise<void>;
  /** Everything else: progress, hints, warnings, errors. */
  err(line: string): void;
  /** All of stdin. */
  stdin(): Promise<string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborts on SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** From now on SIGINT is the affair of a child process, which gets it from the terminal as well. */
  ignoreInterrupts(): void;
  readonly stdoutIsTty: boolean;
  readonly stdinIsTty: boolean;
  /** Shows `prompt` on stderr and reads one line of stdin. */
  ask(prompt: string): Promise<string>;
  /** ms since the epoch. */
  now(): number;
}

/**
 * The real one. Takes over the process's signals: the first one aborts `signal`, a second one ends the process.
 * Ends it quietly, too, when the reader of stdout or stderr goes away (`| head -1`).
 */
export function processIo(): Io {
  const interrupt = new AbortController();
  const { signal } = interrupt;
  let ignoresInterrupts = false;
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.on(name, () => {
      if (name === "SIGINT" && ignoresInterrupts) return;
      if (signal.aborted) process.exit(EXIT.interrupted);
      interrupt.abort(new Error(`Interrupted by ${name}`));
    });
  const gone = (error: NodeJS.ErrnoException): void => {
    if (error.code === "EPIPE") process.exit(EXIT.ok);
    throw error;
  };
  process.stdout.on("error", gone);
  process.stderr.on("error", gone);
  return {
    async out(chunk) {
      if (!process.stdout.write(chunk)) await once(process.stdout, "drain");
    },
    err: (line) => void process.stderr.write(`${line}\n`),
    async stdin() {
      const stop = (): void => void process.stdin.destroy(new Error("Interrupted"));
      signal.addEventListener("abort", stop, { once: true });
      return await text(process.stdin);
    },
    env: process.env,
    signal,
    ignoreInterrupts: () => void (ignoresInterrupts = true),
    stdoutIsTty: process.stdout.isTTY === true,
    stdinIsTty: process.stdin.isTTY === true,
    async ask(prompt) {
      const { createInterface } = await import("node:readline/promises");
      using lines = createInterface({ input: process.stdin, output: process.stderr });
      return await lines.question(prompt, { signal });
    },
    now: () => Date.now(),
  };
}
