// A tar archive (POSIX ustar) of small text files, built in memory.

const BLOCK = 512;

export interface ArchiveFile {
  /** Relative, with `/`; at most 255 bytes with a `/` in a place that lets it be split. */
  readonly path: string;
  readonly content: string | Uint8Array;
}

/** @param mtimeMs  of every file */
export function tar(files: readonly ArchiveFile[], mtimeMs: number): Buffer {
  const parts: Buffer[] = [];
  for (const { path, content } of files) {
    const bytes = Buffer.from(content);
    const padding = (BLOCK - (bytes.length % BLOCK)) % BLOCK;
    parts.push(header(path, bytes.length, mtimeMs), bytes, Buffer.alloc(padding));
  }
  parts.push(Buffer.alloc(BLOCK * 2));
  return Buffer.concat(parts);
}

/** Offsets and widths are those of POSIX.1-2008, pax, "ustar Interchange Format". */
function header(path: string, size: number, mtimeMs: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const { prefix, name } = split(path);
  const octal = (value: number, at: number, width: number): void =>
    void block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at, "latin1");
  block.write(name, 0);
  octal(0o600, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(Math.floor(mtimeMs / 1000), 136, 12);
  block.write("        ", 148, "latin1");
  block.write("0", 156, "latin1");
  block.write("ustar\0", 257, "latin1");
  block.write("00", 263, "latin1");
  block.write(prefix, 345);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

function split(path: string): { readonly prefix: string; readonly name: string } {
  if (Buffer.byteLength(path) <= 100) return { prefix: "", name: path };
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(prefix) <= 155 && Buffer.byteLength(name) <= 100) return { prefix, name };
  }
  throw new RangeError(`A name too long for an archive: ${path}`);
}
