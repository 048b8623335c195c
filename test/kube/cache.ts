// Things that take long to make and depend on few: kept outside the tree, made once for all processes.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { FileLock } from "./file-lock.ts";

/** Unused this long, the earlier ones of a subject go: nobody else would ever remove them. */
const UNUSED_MS = 7 * 24 * 3_600_000;

/** `$AMBIT_CACHE`, else `ambit` in the user's cache directory. */
export function cacheDir(): string {
  const { AMBIT_CACHE: ours = "", XDG_CACHE_HOME: users = "" } = process.env;
  if (ours !== "") return ours;
  return join(users === "" ? join(homedir(), ".cache") : users, "ambit");
}

/** The directory, in the cache, whose content depends on these texts alone. */
export function cachePlace(subject: string, ...texts: readonly string[]): string {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(`${text.length}\n${text}`);
  return join(cacheDir(), `${subject}-${hash.digest("hex").slice(0, 16)}`);
}

/**
 * Fills `place`, once for all processes: `fill` gets a directory that takes its place when done.
 * Others wait meanwhile; the lock ends with its holder, however that ends.
 */
export async function fillOnce(
  place: string,
  fill: (dir: string) => Promise<void>,
  unusedMs = UNUSED_MS,
): Promise<void> {
  if (await isThere(place)) return;
  await mkdir(cacheDir(), { recursive: true });
  await using _lock = await FileLock.take(`${place}.lock`);
  if (await isThere(place)) return;
  await removeUnused(place.replace(/-[^-]+$/, ""), unusedMs);
  const dir = `${place}.tmp`; // what an interrupted run left is ours: we hold the lock
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir);
  await fill(dir);
  await rename(dir, place);
}

/** Looking at it counts as use. */
async function isThere(place: string): Promise<boolean> {
  if (!existsSync(place)) return false;
  const now = new Date();
  await utimes(place, now, now).catch(() => {}); // somebody else's cache serves, too
  return true;
}

async function removeUnused(prefix: string, unusedMs: number): Promise<void> {
  for (const name of await readdir(cacheDir())) {
    const path = join(cacheDir(), name);
    if (!path.startsWith(`${prefix}-`) || path.endsWith(".lock")) continue;
    const used = await stat(path).catch(() => null);
    if (used !== null && Date.now() - used.mtimeMs > unusedMs)
      await rm(path, { recursive: true, force: true });
  }
}
