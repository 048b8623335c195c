// Three places hear of a call, none of them standard output: stderr, a file beside the agent's
// sockets, and the agent's own log if it listens. Losing a line never fails a call.
import {
  appendFileSync,
  existsSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { askAgent } from "./agent-client.ts";

export type Level = "debug" | "info" | "warn" | "error";
const ORDER: readonly Level[] = ["debug", "info", "warn", "error"];
const FILE_LIMIT_BYTES = 10 << 20;
const BACKUP_AGE_MS = 2 * 24 * 3_600_000;
const SEND_TIMEOUT_MS = 1_000;

export class PluginLog {
  readonly #runDir: string;
  readonly #level: number;
  readonly #lines: string[] = [];
  readonly #hasSocket: boolean;

  constructor(runDir: string, level: Level) {
    this.#runDir = runDir;
    this.#level = ORDER.indexOf(level);
    this.#hasSocket = existsSync(join(runDir, "log.sock"));
  }

  write(level: Level, msg: string, fields: Readonly<Record<string, unknown>> = {}): void {
    const rank = ORDER.indexOf(level);
    const line = JSON.stringify({ level, time: new Date().toISOString(), msg, ...fields });
    if (rank >= 1) this.#toFile(line);
    if (rank < this.#level) return;
    attempt(() => writeSync(2, `${line}\n`));
    this.#lines.push(line);
  }

  /** Hands the lines to the agent, waiting at most a second. */
  async flush(): Promise<void> {
    if (!this.#hasSocket || this.#lines.length === 0) return;
    const body = JSON.stringify(this.#lines.splice(0));
    await askAgent(join(this.#runDir, "log.sock"), "POST", "/log", body, {
      timeoutMs: SEND_TIMEOUT_MS,
    }).catch(() => undefined);
  }

  #toFile(line: string): void {
    const file = join(this.#runDir, "istio-cni.log");
    attempt(() => {
      if (existsSync(file) && statSync(file).size > FILE_LIMIT_BYTES) rotate(file);
      appendFileSync(file, `${line}\n`, { mode: 0o600 });
    });
  }
}

/** Keeps one old file, for two days. */
function rotate(file: string): void {
  const [name, dir] = [basename(file, ".log"), dirname(file)];
  for (const entry of readdirSync(dir))
    if (entry.startsWith(`${name}-`) && entry.endsWith(".log")) rmSync(join(dir, entry));
  renameSync(file, join(dir, `${name}-${Date.now()}.log`));
}

/** Removes an old file that has outlived its days. */
export function dropOldBackups(runDir: string): void {
  attempt(() => {
    for (const entry of readdirSync(runDir)) {
      const at = /^istio-cni-(\d+)\.log$/.exec(entry)?.[1];
      if (at !== undefined && Date.now() - Number(at) > BACKUP_AGE_MS) rmSync(join(runDir, entry));
    }
  });
}

function attempt(act: () => void): void {
  try {
    act();
  } catch {
    // a full disk or a missing directory must not keep a pod from starting
  }
}
