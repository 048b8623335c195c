// Runs a shell script inside a network namespace, with a deadline and bounded output. One script is
// one process group: a tool that hangs is killed with everything it started.
import { spawn, type ChildProcess } from "node:child_process";
import { inNetns, type NetnsFd } from "#lib/sys/netns.ts";
import { RulesError } from "./errors.ts";

/** More than the largest ruleset listing we expect; beyond it the script is killed. */
const MAX_OUTPUT_BYTES = 8 << 20;

export interface ScriptResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A place scripts can run in: a pod's namespace or the node's. */
export interface ScriptRunner {
  /** @throws {RulesError} `TIMED_OUT`, or `COMMAND_FAILED` when no shell can be started there */
  run(script: string, signal?: AbortSignal): Promise<ScriptResult>;
}

/**
 * A runner inside `ns` (borrowed: it must stay open until the last run has ended), or here when `null`.
 * A child inherits the namespace this thread is in while it forks, so no helper process enters it.
 */
export function scriptRunner(ns: NetnsFd | null, timeoutMs: number): ScriptRunner {
  return {
    run: (script, signal) => {
      let child: ChildProcess | undefined;
      const start = (): void => {
        child = spawn("/bin/sh", ["-c", script], {
          stdio: ["ignore", "pipe", "pipe"],
          detached: true,
        });
      };
      try {
        if (ns === null) start();
        else inNetns(ns, start);
      } catch (cause) {
        throw new RulesError("COMMAND_FAILED", "Cannot enter the network namespace", { cause });
      }
      if (child === undefined) throw new RulesError("COMMAND_FAILED", "Cannot start a shell");
      return finish(child, timeoutMs, signal);
    },
  };
}

/** The first kilobyte says what is wrong; more would not fit a CNI error. */
export function commandFailed(what: string, done: ScriptResult): RulesError {
  const said = done.stderr.trim().slice(0, 1000) || `exit status ${done.code}`;
  return new RulesError("COMMAND_FAILED", `${what}: ${said}`);
}

function finish(
  child: ChildProcess,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<ScriptResult> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let size = 0;
    let killedBy: RulesError | null = null;
    const kill = (why: RulesError): void => {
      killedBy ??= why;
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // the group has ended meanwhile
      }
    };
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MAX_OUTPUT_BYTES) into.push(chunk);
      else
        kill(new RulesError("COMMAND_FAILED", `A script printed over ${MAX_OUTPUT_BYTES} bytes`));
    };
    const timer = setTimeout(
      () => kill(new RulesError("TIMED_OUT", `A script did not end within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const abort = (): void => kill(new RulesError("TIMED_OUT", "A script was cancelled"));
    if (signal?.aborted === true) abort();
    signal?.addEventListener("abort", abort, { once: true });
    child.stdout?.on("data", collect(out));
    child.stderr?.on("data", collect(err));
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      act();
    };
    child.once("error", (cause) =>
      settle(() => reject(new RulesError("COMMAND_FAILED", "Cannot start a shell", { cause }))),
    );
    child.once("close", (code) =>
      settle(() => {
        if (killedBy !== null) reject(killedBy);
        else
          resolve({
            code: code ?? -1,
            stdout: Buffer.concat(out).toString(),
            stderr: Buffer.concat(err).toString(),
          });
      }),
    );
  });
}
