// Tar archives in the ustar format (POSIX.1-1988), as container tools read them. All files belong to
// root and carry no time: the same content gives the same bytes.
import type { Writable } from "node:stream";

export type TarEntry =
  | {
      readonly kind: "file";
      readonly path: string;
      readonly mode: number;
      readonly content: Uint8Array;
    }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | { readonly kind: "dir"; readonly path: string; readonly mode?: number };

const BLOCK = 512;
const TYPE = { file: "0", link: "2", dir: "5" } as const;
/** The two fields a path can be split over. */
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;

/** The parts of an archive in order; the caller writes or hashes them. @throws on a path ustar cannot hold */
export function* tarParts(entries: Iterable<TarEntry>): Generator<Uint8Array> {
  for (const entry of entries) {
    yield header(entry);
    if (entry.kind !== "file") continue;
    yield entry.content;
    const rest = entry.content.length % BLOCK;
    if (rest > 0) yield new Uint8Array(BLOCK - rest);
  }
  yield new Uint8Array(2 * BLOCK);
}

/** Waits whenever the stream is full. Does not end it. */
export async function writeTar(out: Writable, entries: Iterable<TarEntry>): Promise<void> {
  for (const part of tarParts(entries))
    await new Promise<void>((resolve, reject) => {
      out.write(part, (error) => (error == null ? resolve() : reject(error)));
    });
}

function header(entry: TarEntry): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  const [name, prefix] = splitPath(entry.kind === "dir" ? `${entry.path}/` : entry.path);
  const mode = entry.kind === "link" ? 0o777 : (entry.mode ?? 0o755);
  const size = entry.kind === "file" ? entry.content.length : 0;
  const target = entry.kind === "link" ? entry.target : "";
  if (Buffer.byteLength(target) > NAME_BYTES) throw new Error(`Link target too long: ${target}`);
  block.write(name, 0);
  block.write(octal(mode, 8), 100);
  block.write(octal(0, 8), 108); // owner
  block.write(octal(0, 8), 116); // group
  block.write(octal(size, 12), 124);
  block.write(octal(0, 12), 136); // time
  block.fill(" ", 148, 156); // the sum counts itself as blanks
  block.write(TYPE[entry.kind], 156);
  block.write(target, 157);
  block.write("ustar\u000000", 257);
  block.write(prefix, 345);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 7)}\0 `.slice(0, 8), 148);
  return block;
}

/** Zero-padded and terminated: `width` bytes. */
const octal = (value: number, width: number): string =>
  `${value.toString(8).padStart(width - 1, "0")}\0`;

function splitPath(path: string): [name: string, prefix: string] {
  if (Buffer.byteLength(path) <= NAME_BYTES) return [path, ""];
  for (
    let at = path.indexOf("/");
    at >= 0 && at < path.length - 1;
    at = path.indexOf("/", at + 1)
  ) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(name) <= NAME_BYTES && Buffer.byteLength(prefix) <= PREFIX_BYTES)
      return [name, prefix];
  }
  throw new Error(`Path too long for a tar archive: ${path}`);
}
