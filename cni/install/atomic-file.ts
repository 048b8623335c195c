// Files that other programs read at any moment: whole or not at all. Written beside, then renamed.
import { randomBytes } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import { copyFile, constants, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Replaces `path`; on failure the old file is as it was. */
export async function writeAtomic(path: string, text: string, mode: number): Promise<void> {
  await replace(path, mode, async (temporary) => {
    await using file = await open(temporary, "wx", 0o600);
    await file.writeFile(text);
  });
}

/** Replaces `target` with the bytes of `source`; a program that runs from the old file goes on. */
export async function copyAtomic(source: string, target: string, mode: number): Promise<void> {
  await replace(target, mode, (temporary) =>
    copyFile(source, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE),
  );
}

/** Removes what an interrupted write of `path` left. */
export function dropLeftovers(path: string): void {
  const prefix = `${basename(path)}.tmp.`;
  for (const entry of readdirSync(dirname(path)))
    if (entry.startsWith(prefix)) rmSync(join(dirname(path), entry), { force: true });
}

async function replace(
  path: string,
  mode: number,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.tmp.${randomBytes(6).toString("hex")}`;
  try {
    await fill(temporary);
    // after a power cut the name must not lead to an empty file
    await using file = await open(temporary, "r");
    await file.chmod(mode);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
