// Directories that end with their owner: removed when disposed of, or swept by a later run when the
// owner was killed before it could.
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sandbox } from "../../lab/sandbox.ts";

const OWNER_FILE = "owner";

/** Owns a directory nobody else can read. */
export class TempDir implements Disposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** `prefix` says what it is for; those of dead owners are swept first. */
  static create(prefix: string): TempDir {
    // process numbers in a sandbox mean nothing outside: its directories are inside its own
    const inner = sandbox()?.stateDir;
    if (inner === undefined) TempDir.sweep(prefix);
    const path = mkdtempSync(join(inner ?? tmpdir(), `${prefix}-`));
    writeFileSync(join(path, OWNER_FILE), processMark(process.pid) ?? "");
    return new TempDir(path);
  }

  /** Removes those whose owner is dead. */
  static sweep(prefix: string): void {
    for (const name of readdirSync(tmpdir())) {
      if (!name.startsWith(`${prefix}-`)) continue;
      const path = join(tmpdir(), name);
      try {
        if (statSync(path).uid !== process.getuid?.()) continue;
        const owner = readFileSync(join(path, OWNER_FILE), "utf8");
        if (!isAlive(owner)) rmSync(path, { recursive: true });
      } catch {
        // just being made or removed by its owner
      }
    }
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** AMBIT_LAB_KEEP=1 keeps it for a look at the logs. */
  [Symbol.dispose](): void {
    if (process.env["AMBIT_LAB_KEEP"] === "1") process.stderr.write(`files kept in ${this.path}\n`);
    else rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Number and start time: numbers alone come again. `null` when there is no such process. */
export function processMark(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // the second field is a name that may hold anything; starttime is field 22
    const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return `${pid} ${startTime}`;
  } catch {
    return null;
  }
}

export function isAlive(mark: string): boolean {
  return processMark(Number(mark.split(" ")[0])) === mark;
}
