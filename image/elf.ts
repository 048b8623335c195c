// What makes Node's executable smaller and at home on hosts that lack a library of it: the parts the kernel never
// loads are cut off, and libraries are looked for beside the executable first. Little-endian ELF64 only.
// Contracts: System V gABI, chapters 4 and 5; ld.so(8) for DT_RUNPATH and $ORIGIN.

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NULL = 0n;
const DT_STRTAB = 5n;
const DT_SYMTAB = 6n;
const DT_RUNPATH = 29n;
const PROGRAM_HEADER_BYTES = 56;
const SYMBOL_BYTES = 24;
const DYNAMIC_BYTES = 16;
/** The file starts with this header. */
const HEADER = { phoff: 32, shoff: 40, phnum: 56, shentsize: 58, shnum: 60, shstrndx: 62 } as const;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
}

/** @returns a copy without symbol tables, debug information and section headers: about a fifth less for Node. */
export function withoutUnloaded(elf: Buffer): Buffer {
  const end = Math.max(...segmentsOf(elf).map((s) => s.offset + s.fileBytes));
  const short = Buffer.from(elf.subarray(0, end));
  short.writeBigUInt64LE(0n, HEADER.shoff);
  for (const field of [HEADER.shentsize, HEADER.shnum, HEADER.shstrndx])
    short.writeUInt16LE(0, field);
  return short;
}

/**
 * @returns a copy that looks for its libraries in `path` before the system's places
 * The text takes the place of the name of an exported C++ symbol, which only add-ons could have asked for: so this is
 * for executables that load none.
 * @throws {Error} when there is no room for the entry or the text
 */
export function withRunpath(elf: Buffer, path: string): Buffer {
  const copy = Buffer.from(elf);
  const segments = segmentsOf(copy);
  const dynamic = segments.find((s) => s.type === PT_DYNAMIC);
  if (dynamic === undefined) throw new Error("The executable is not dynamically linked");
  const entries = new Map<bigint, bigint>();
  let at = dynamic.offset;
  for (; copy.readBigUInt64LE(at) !== DT_NULL; at += DYNAMIC_BYTES)
    entries.set(copy.readBigUInt64LE(at), copy.readBigUInt64LE(at + 8));
  // the entry after the new one must still be the end mark
  if (at + 2 * DYNAMIC_BYTES > dynamic.offset + dynamic.fileBytes || entries.has(DT_RUNPATH))
    throw new Error("No room for a library path in the executable's dynamic section");
  const strings = fileOffset(segments, entries.get(DT_STRTAB));
  const symbols = fileOffset(segments, entries.get(DT_SYMTAB));
  const name = spareName(copy, symbols, strings, path.length + 1);
  copy.write(`${path}\0`, strings + name, "latin1");
  copy.writeBigUInt64LE(DT_RUNPATH, at);
  copy.writeBigUInt64LE(BigInt(name), at + 8);
  return copy;
}

function segmentsOf(elf: Buffer): Segment[] {
  if (elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1)
    throw new Error("Not a little-endian 64-bit ELF file");
  const start = Number(elf.readBigUInt64LE(HEADER.phoff));
  return Array.from({ length: elf.readUInt16LE(HEADER.phnum) }, (_, i) => {
    const at = start + i * PROGRAM_HEADER_BYTES;
    return {
      type: elf.readUInt32LE(at),
      offset: Number(elf.readBigUInt64LE(at + 8)),
      address: Number(elf.readBigUInt64LE(at + 16)),
      fileBytes: Number(elf.readBigUInt64LE(at + 32)),
    };
  });
}

function fileOffset(segments: readonly Segment[], address: bigint | undefined): number {
  const wanted = Number(address ?? -1n);
  const segment = segments.find(
    (s) => s.type === PT_LOAD && wanted >= s.address && wanted < s.address + s.fileBytes,
  );
  if (segment === undefined) throw new Error("The executable's dynamic section is incomplete");
  return wanted - segment.address + segment.offset;
}

/** The string table follows the symbol table; names may share tails, so one is taken that no other starts in. */
function spareName(elf: Buffer, symbols: number, strings: number, bytes: number): number {
  const names: number[] = [];
  const defined = new Set<number>();
  for (let at = symbols; at < strings; at += SYMBOL_BYTES) {
    const name = elf.readUInt32LE(at);
    names.push(name);
    if (elf.readUInt16LE(at + 6) !== 0) defined.add(name);
  }
  names.sort((a, b) => a - b);
  const found = names.findIndex(
    (name, i) =>
      defined.has(name) &&
      (names[i + 1] ?? 0) >= name + bytes &&
      elf.toString("latin1", strings + name, strings + name + 6) === "_ZN2v8",
  );
  const name = names[found];
  if (name === undefined) throw new Error("No room for a library path among the symbol names");
  return name;
}
