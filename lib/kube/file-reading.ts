// One look at a file that others replace: its text when it changed since the last look.
import { readFileSync, statSync } from "node:fs";
import { KubeError } from "./errors.ts";

/** A file larger than this is refused: it would not be a manifest by intent. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;

export type FileReading =
  | { readonly kind: "gone" }
  | { readonly kind: "unchanged" }
  | { readonly kind: "text"; readonly stamp: string; readonly text: string }
  | { readonly kind: "failed"; readonly stamp: string; readonly error: KubeError };

/** @param known stamp of the last look, equal while nobody wrote; `null` reads whatever it is */
export function readChanged(file: string, known: string | null): FileReading {
  let stamp = "";
  try {
    const stat = statSync(file, { bigint: true });
    if (!stat.isFile()) return { kind: "gone" };
    stamp = `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
    if (known === stamp) return { kind: "unchanged" };
    if (stat.size > MAX_FILE_BYTES)
      throw new Error(`${stat.size} bytes, at most ${MAX_FILE_BYTES} are read`);
    return { kind: "text", stamp, text: readFileSync(file, "utf8") };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return { kind: "gone" };
    return { kind: "failed", stamp, error: cannotRead(file, error) };
  }
}

export function cannotRead(path: string, error: unknown): KubeError {
  const reason = error instanceof Error ? error.message : String(error);
  return new KubeError("IO", `Cannot read ${path}: ${reason}`, { file: path, cause: error });
}
