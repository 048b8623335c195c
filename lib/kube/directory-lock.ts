// One writer at a time in a manifest directory, across processes of a machine.
import { linkSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "#lib/base/clock.ts";
import { KubeError } from "./errors.ts";

/** Writers hold the lock for milliseconds; one this old has lost its owner, alive or not. */
const STALE_AFTER_MS = 10_000;
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 20;
let serial = 0;

export interface LockOptions {
  /** How long to wait for other writers. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

/**
 * The lock is the file `.lock`, made by `link` so that it appears together with its owner's name.
 * A lock whose owner is dead (same process namespace) or that is too old is broken by the next
 * writer, under a second lock so that two of them never break each other's.
 */
export class DirectoryLock {
  readonly #path: string;
  readonly #dir: string;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  /** Writers of this process queue here, so that they do not poll against each other. */
  #tail: Promise<unknown> = Promise.resolve();

  constructor(dir: string, options: LockOptions = {}) {
    this.#dir = dir;
    this.#path = join(dir, ".lock");
    this.#timeoutMs = options.timeoutMs ?? 5_000;
    this.#clock = options.clock ?? systemClock;
  }

  /** Runs `body` while no other writer runs. @throws {KubeError} `BUSY` after `timeoutMs` */
  run<T>(body: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(async () => {
      const token = await this.#acquire();
      try {
        return await body();
      } finally {
        if (ownerOf(this.#path) === token) rmSync(this.#path, { force: true });
      }
    });
    this.#tail = turn.catch(() => undefined);
    return turn;
  }

  async #acquire(): Promise<string> {
    const token = `${process.pid} ${pidNamespace()} ${++serial} ${process.hrtime.bigint()}`;
    const deadline = this.#clock.now() + this.#timeoutMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      if (this.#tryLink(this.#path, token)) return token;
      const owner = ownerOf(this.#path);
      if (owner !== null && this.#isStale(this.#path, owner)) this.#break(owner, token);
      else if (this.#clock.now() >= deadline)
        throw new KubeError(
          "BUSY",
          `Cannot lock ${this.#dir} for writing within ${this.#timeoutMs} ms: process ${owner?.split(" ", 1)[0] ?? "?"} holds ${this.#path}`,
          { file: this.#path },
        );
      else await this.#clock.sleep(pauseMs);
    }
  }

  #break(owner: string, token: string): void {
    const guard = `${this.#path}.break`;
    if (!this.#tryLink(guard, token)) {
      const other = ownerOf(guard);
      if (other !== null && this.#isStale(guard, other)) rmSync(guard, { force: true });
      return;
    }
    if (ownerOf(this.#path) === owner) rmSync(this.#path, { force: true });
    rmSync(guard, { force: true });
  }

  #tryLink(path: string, token: string): boolean {
    const own = join(this.#dir, `.lock.${process.pid}.${serial}.tmp`);
    try {
      writeFileSync(own, token, { mode: 0o600 });
      linkSync(own, path);
      return true;
    } catch (error) {
      if (codeOf(error) === "EEXIST") return false;
      throw new KubeError("IO", `Cannot lock ${this.#dir} for writing: ${String(error)}`, {
        file: path,
        cause: error,
      });
    } finally {
      rmSync(own, { force: true });
    }
  }

  #isStale(path: string, owner: string): boolean {
    try {
      if (this.#clock.now() - statSync(path).mtimeMs > STALE_AFTER_MS) return true;
    } catch {
      return false; // released meanwhile
    }
    const [pid = "", namespace] = owner.split(" ");
    return namespace === pidNamespace() && !isAlive(Number(pid));
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return true; // unreadable: age decides
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== "ESRCH";
  }
}

/** Process ids of other namespaces say nothing here. */
function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "pid:[]";
  }
}

function ownerOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
