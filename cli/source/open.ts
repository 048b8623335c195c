// Picks the source a command reads: the file of `-f`, else the running lab.
import type { Globals } from "../command.ts";
import type { Io } from "../io.ts";
import type { GatherOptions, MeshSource } from "./mesh-source.ts";

export interface SourceFlags extends Globals {
  readonly file?: string | undefined;
  readonly node?: string | undefined;
}

/** @throws {CliError} UNREACHABLE when no lab runs, BAD_INPUT for a file that cannot be read */
export async function openSource(flags: SourceFlags, io: Io): Promise<MeshSource> {
  if (flags.file !== undefined) {
    const { openFileSource } = await import("./file-source.ts");
    return await openFileSource(flags.file, io);
  }
  const { openLabSource } = await import("./lab-source.ts");
  return await openLabSource(flags.lab, io);
}

export function gatherOptions(flags: SourceFlags, io: Io): GatherOptions {
  return { node: flags.node, timeoutMs: flags.timeout, signal: io.signal };
}
