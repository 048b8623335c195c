// Running programs with deadlines: one-shot commands, and long-running processes whose output is kept.
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { constants } from "node:os";
import { LabError } from "./errors.ts";

/** Output kept in memory of each process, in characters: at least so much, at most twice; older output goes first. */
const MIN_OUTPUT = 1 << 20;

export interface RunOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  /** A non-zero exit is returned instead of thrown. */
  readonly allowFailure?: boolean;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. @throws {LabError} `COMMAND` with its error output, `MISSING_PROGRAM` */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [file = "", ...args] = argv;
  const timeoutMs = options.timeoutMs ?? 30_000;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: childEnv(options.env), stdio: "pipe" });
    let stdout = "";
    let stderr = "";
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout = keep(stdout, text)));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr = keep(stderr, text)));
    child.stdin.on("error", () => {}); // it may end without reading
    child.stdin.end(options.input ?? "");
    child.once("error", (cause) => {
      clearTimeout(timer);
      reject(spawnError(file, cause));
    });
    child.once("close", (exit, signal) => {
      clearTimeout(timer);
      const code = exit ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      if (code === 0 || (options.allowFailure === true && !late))
        return resolve({ code, stdout, stderr });
      const how = late ? `did not end within ${timeoutMs} ms` : `ended with status ${code}`;
      reject(new LabError("COMMAND", `${argv.join(" ")} ${how}: ${(stderr || stdout).trim()}`));
    });
  });
}

export interface StartOptions {
  /** Short name for messages. */
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Receives both outputs as well, appended. */
  readonly logFile?: string;
}

/** A long-running child in its own process group. Disposing it ends the group. */
export class LabProcess implements AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Resolves with the exit status, or 128 + signal. Never rejects. */
  readonly exited: Promise<number>;
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  readonly #log: WriteStream | null;
  #output = "";
  #stdout = "";
  #exitCode: number | null = null;

  private constructor(child: ChildProcess, options: StartOptions, pid: number) {
    this.#child = child;
    this.name = options.name;
    this.pid = pid;
    this.#log =
      options.logFile === undefined ? null : createWriteStream(options.logFile, { flags: "a" });
    this.#log?.on("error", () => {}); // the state directory may be gone at the very end
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout = keep(this.#stdout, text);
      this.#append(text);
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#append(text));
    this.exited = new Promise((resolve) => {
      const settle = (exit: number | null, signal: NodeJS.Signals | null): void => {
        if (this.#exitCode !== null) return;
        this.#exitCode = exit ?? 128 + (signal === null ? 0 : constants.signals[signal]);
        this.#log?.end();
        this.#wake();
        resolve(this.#exitCode);
      };
      // "close" comes after the last output, but never while a grandchild keeps the pipes
      child.once("close", settle);
      child.once("exit", (exit, signal) => setTimeout(settle, 200, exit, signal));
    });
  }

  /** @throws {LabError} `MISSING_PROGRAM` */
  static async start(argv: readonly string[], options: StartOptions): Promise<LabProcess> {
    const [file = "", ...args] = argv;
    const child = spawn(file, args, {
      env: childEnv(options.env),
      stdio: ["pipe", "pipe", "pipe"],
      detached: true, // own process group: Ctrl-C reaches the lab, which then ends its children in order
    });
    child.stdin.on("error", () => {});
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause) => reject(spawnError(file, cause)));
    });
    return new LabProcess(child, options, child.pid ?? 0);
  }

  get running(): boolean {
    return this.#exitCode === null;
  }

  get exitCode(): number | null {
    return this.#exitCode;
  }

  /** Both outputs as they came, up to the last million characters. */
  get output(): string {
    return this.#output;
  }

  get stdout(): string {
    return this.#stdout;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  closeInput(): void {
    this.#child.stdin?.end();
  }

  /** The last lines of the output, for error messages. */
  tail(lines = 15): string {
    return this.#output.trimEnd().split("\n").slice(-lines).join("\n");
  }

  /**
   * Waits until the output has a match, from its beginning.
   * @throws {LabError} `NOT_READY` with the output's tail, when it ends or the time is over
   */
  async waitForOutput(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpExecArray> {
    let found: RegExpExecArray | null = null;
    await this.waitUntil(
      () => (found = pattern.exec(this.#output)) !== null,
      `output ${pattern}`,
      timeoutMs,
    );
    if (found === null) throw new LabError("NOT_READY", `${this.name}: no ${pattern}`);
    return found;
  }

  /** Waits until `isDone` after some output. @throws {LabError} `NOT_READY` */
  async waitUntil(isDone: () => boolean, what: string, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!isDone()) {
      const leftMs = deadline - Date.now();
      if (!this.running || leftMs <= 0) {
        const why = this.running
          ? `not within ${timeoutMs} ms`
          : `it ended with status ${this.#exitCode}`;
        throw new LabError(
          "NOT_READY",
          `${this.name}: waiting for ${what}: ${why}\n${this.tail()}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, leftMs);
        const watchers = this.#watchers;
        function done(): void {
          clearTimeout(timer);
          watchers.delete(done);
          resolve();
        }
        watchers.add(done);
      });
    }
  }

  /** Sends a signal to the process and everything it started. */
  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    if (!this.running) return;
    try {
      process.kill(-this.pid, signal);
    } catch {
      this.#child.kill(signal); // not a group leader yet, or gone
    }
  }

  /** SIGTERM, then SIGKILL after `graceMs`. Resolves with the exit status. */
  async stop(graceMs = 5_000): Promise<number> {
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), graceMs);
    const code = await this.exited;
    clearTimeout(timer);
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(1_000);
  }

  #append(text: string): void {
    this.#output = keep(this.#output, text);
    this.#log?.write(text);
    this.#wake();
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

/**
 * What a child gets of our environment. Not the test runner's switch: a child that is no test
 * would speak its protocol.
 */
function childEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...rest } = process.env;
  return { ...rest, ...extra };
}

/** Cuts rarely: each cut copies all that is kept, and a proxy's access log comes in megabytes a second. */
function keep(kept: string, more: string): string {
  const all = kept + more;
  return all.length > 2 * MIN_OUTPUT ? all.slice(-MIN_OUTPUT) : all;
}

function spawnError(file: string, cause: Error): LabError {
  if ((cause as NodeJS.ErrnoException).code === "ENOENT")
    return new LabError("MISSING_PROGRAM", `${file} is not installed (make deps)`, { cause });
  return new LabError("COMMAND", `Cannot start ${file}: ${cause.message}`, { cause });
}
