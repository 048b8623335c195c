// What goes into test images: folders, and programs of this machine with the libraries they load.
import {
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  lstatSync,
} from "node:fs";
import { join, relative } from "node:path";
import { run } from "../../lab/process.ts";
import type { TarEntry } from "./tar.ts";

/** A folder's content, at `place` in the image; `""` is its root. */
export function folder(dir: string, place: string): TarEntry[] {
  const entries: TarEntry[] = [];
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    const target = place === "" ? name : `${place}/${name}`;
    const stat = lstatSync(path);
    if (stat.isSymbolicLink())
      entries.push({ kind: "link", path: target, target: readlinkSync(path) });
    else if (stat.isDirectory())
      entries.push(
        { kind: "dir", path: target, mode: stat.mode & 0o7777 },
        ...folder(path, target),
      );
    else entries.push(file(path, target));
  }
  return entries;
}

/** One file, at its own path or another; links are followed. */
export function file(path: string, place = path.slice(1)): TarEntry {
  const mode = statSync(path).mode & 0o7777;
  return { kind: "file", path: place, mode, content: readFileSync(path) };
}

/** A program at its own path with all links that lead to it. */
export function program(path: string): TarEntry[] {
  const entries: TarEntry[] = [];
  for (let at = path, hops = 0; hops < 8; hops++) {
    if (!lstatSync(at).isSymbolicLink()) return [...entries, file(at)];
    const target = join(at, "..", readlinkSync(at));
    const next = readlinkSync(at).startsWith("/") ? readlinkSync(at) : target;
    entries.push({ kind: "link", path: at.slice(1), target: next });
    at = next;
  }
  throw new Error(`Too many links from ${path}`);
}

/** The libraries these executables and plugins are loaded with, dynamic loader included. */
export async function libraries(paths: readonly string[], except = ""): Promise<TarEntry[]> {
  const { stdout } = await run(["ldd", ...paths], { allowFailure: true });
  const found = new Set<string>();
  for (const match of stdout.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(0x/gm)) found.add(match[1] ?? "");
  // /lib may be a link to /usr/lib here: in the image each library is where it was found
  return [...found]
    .filter((path) => except === "" || relative(except, realpathSync(path)).startsWith(".."))
    .map((path) => file(path));
}
