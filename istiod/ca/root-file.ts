// The root bundle as a file for clients on this machine: what a ConfigMap is in a cluster.
import { mkdir, rename, unlink, writeFile } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { basename, dirname, join } from "node:path";

/** Replaced whole, so that no reader sees half of it. Readable by everybody: roots are no secret. */
export async function writeRootFile(path: string, rootPem: string): Promise<void> {
  const dir = dirname(path);
  const draft = join(dir, `.${basename(path)}.${randomUUID()}`);
  await mkdir(dir, { recursive: true });
  try {
    await writeFile(draft, rootPem, { mode: 0o644 });
    await rename(draft, path);
  } catch (error) {
    await unlink(draft).catch(() => {});
    throw error;
  }
}
