// The name of a listening Unix socket. Two processes may overlap for a moment, when the older is slow to end:
// the newer takes the name over at once, and the older must not remove it on its way out.
import { randomBytes } from "node:crypto";
import { lstatSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** A name to bind at before `placeSocket`; removes what a process left that ended between the two. */
export function bindingPath(path: string): string {
  const prefix = `${basename(path)}.tmp.`;
  for (const entry of readdirSync(dirname(path)))
    if (entry.startsWith(prefix)) rmSync(join(dirname(path), entry), { force: true });
  return `${path}.tmp.${randomBytes(4).toString("hex")}`;
}

/**
 * Gives the socket that listens at `bound` its name, in place of what has it.
 * @returns removes the name if it is still ours: to be disposed of before the socket is closed, since
 *          only an open socket keeps its inode number to itself
 */
export function placeSocket(bound: string, path: string): Disposable {
  renameSync(bound, path);
  const own = inodeOf(path);
  return {
    [Symbol.dispose]: () => {
      if (own !== null && inodeOf(path) === own) rmSync(path, { force: true });
    },
  };
}

function inodeOf(path: string): string | null {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}
