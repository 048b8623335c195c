// Container images written by ourselves, as `docker save` writes them: one layer, no registry, no docker.
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { tarParts, writeTar, type TarEntry } from "./tar.ts";

export interface ImageSpec {
  /** `name:tag` */
  readonly name: string;
  /** Of the root file system; parent directories are added, and later entries replace earlier ones. */
  readonly files: readonly TarEntry[];
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly string[];
  readonly user?: string;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Writes a file for `ctr images import`. */
export async function writeImage(file: string, spec: ImageSpec): Promise<void> {
  const layer = [...tarParts(withParents(spec.files))];
  const hash = createHash("sha256");
  for (const part of layer) hash.update(part);
  const config = JSON.stringify({
    architecture: ARCHITECTURES[process.arch] ?? process.arch,
    os: "linux",
    config: {
      Entrypoint: spec.entrypoint ?? null,
      Cmd: spec.command ?? null,
      Env: [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ...(spec.env ?? []),
      ],
      User: spec.user ?? "",
      WorkingDir: "/",
    },
    rootfs: { type: "layers", diff_ids: [`sha256:${hash.digest("hex")}`] },
    history: [{ created_by: "ambit test/kube" }],
  });
  const configName = `${createHash("sha256").update(config).digest("hex")}.json`;
  const manifest = [{ Config: configName, RepoTags: [spec.name], Layers: ["layer.tar"] }];
  const out = createWriteStream(file);
  await writeTar(out, [
    textFile(configName, config),
    { kind: "file", path: "layer.tar", mode: 0o644, content: Buffer.concat(layer) },
    textFile("manifest.json", JSON.stringify(manifest)),
  ]);
  out.end();
  await finished(out);
}

export function textFile(path: string, text: string, mode = 0o644): TarEntry {
  return { kind: "file", path, mode, content: Buffer.from(text) };
}

/** `/bin` and the like are links, as on this machine: a path found here is the same file there. */
const MERGED = ["bin", "sbin", "lib", "lib64"];

/** Every directory before what is in it, and no path twice: the last one counts. */
function withParents(entries: readonly TarEntry[]): TarEntry[] {
  const byPath = new Map<string, TarEntry>(
    MERGED.map((path) => [path, { kind: "link", path, target: `usr/${path}` }]),
  );
  for (const given of entries) {
    const isMerged = MERGED.includes(given.path.split("/")[0] ?? "");
    const entry = isMerged ? { ...given, path: `usr/${given.path}` } : given;
    const parts = entry.path.split("/");
    for (let depth = 1; depth < parts.length; depth++) {
      const path = parts.slice(0, depth).join("/");
      if (!byPath.has(path)) byPath.set(path, { kind: "dir", path });
    }
    byPath.set(entry.path, entry);
  }
  return [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
