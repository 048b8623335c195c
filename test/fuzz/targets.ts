// Finds the targets: every file in targets/ exports one.
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { FuzzTarget } from "./target.ts";

const DIR = join(import.meta.dirname, "targets");

export interface TargetFile {
  readonly name: string;
  readonly path: string;
}

export function targetFiles(): TargetFile[] {
  return readdirSync(DIR)
    .filter((file) => file.endsWith(".ts"))
    .toSorted()
    .map((file) => ({ name: basename(file, ".ts"), path: join(DIR, file) }));
}

/** @throws when the file cannot be loaded, which is a finding of its own */
export async function loadTarget(path: string): Promise<FuzzTarget> {
  const module = (await import(pathToFileURL(path).href)) as { readonly target?: FuzzTarget };
  if (module.target === undefined) throw new Error(`${path} exports no target`);
  return module.target;
}
