// `-f` of the commands that change objects: a file, every manifest below a directory, or stdin.
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { CliError, fileProblem } from "../errors.ts";
import type { Io } from "../io.ts";

/**
 * All objects as written, in order: an API server checks them better, and knows more kinds.
 * @throws {CliError} BAD_INPUT for text that is no objects
 */
export async function readForServer(paths: readonly string[], io: Io): Promise<KubeObject[]> {
  const { readDocuments } = await import("../manifest/render.ts");
  const objects: KubeObject[] = [];
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- kind and name are there
  for (const path of paths)
    for (const { file, text } of await readTexts(path, io))
      objects.push(...(readDocuments(text, file) as unknown as KubeObject[]));
  if (objects.length === 0) throw new CliError("BAD_INPUT", `No objects in ${paths.join(", ")}`);
  return objects;
}

/** All objects, in order. @throws {CliError} BAD_INPUT naming file, line and field of the first mistakes */
export async function readManifests(paths: readonly string[], io: Io): Promise<KubeObject[]> {
  const { parseManifest } = await import("#lib/kube/manifest.ts");
  const objects: KubeObject[] = [];
  const problems: string[] = [];
  for (const path of paths)
    for (const { file, text } of await readTexts(path, io)) {
      const manifest = parseManifest(text, file);
      objects.push(...manifest.objects);
      problems.push(...manifest.errors.map((e) => e.message));
    }
  const [first, ...rest] = problems;
  if (first !== undefined) throw new CliError("BAD_INPUT", first, rest);
  if (objects.length === 0) throw new CliError("BAD_INPUT", `No objects in ${paths.join(", ")}`);
  return objects;
}

async function readTexts(path: string, io: Io): Promise<{ file: string; text: string }[]> {
  if (path === "-") return [{ file: "stdin", text: await io.stdin() }];
  try {
    if (!(await stat(path)).isDirectory())
      return [{ file: path, text: await readFile(path, "utf8") }];
    const names = (await readdir(path, { recursive: true })).filter((n) =>
      /(^|\/)[^/.][^/]*\.(ya?ml|json)$/.test(n),
    );
    const files = names.sort().map((n) => join(path, n));
    return await Promise.all(
      files.map(async (file) => ({ file, text: await readFile(file, "utf8") })),
    );
  } catch (error) {
    throw new CliError("BAD_INPUT", `Cannot read ${path}: ${fileProblem(error)}`, [], error);
  }
}
