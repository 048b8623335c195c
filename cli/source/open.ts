// Picks the source a command reads: the file of `-f`, else the running mesh.
import type { Globals } from "../command.ts";
import type { Io } from "../io.ts";
import { choosePlace } from "../place.ts";
import type { GatherOptions, LiveSource, MeshSource } from "./mesh-source.ts";

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
  return await openLiveSource(flags, io);
}

/** The running mesh. @throws {CliError} UNREACHABLE when there is none */
export async function openLiveSource(flags: Globals, io: Io): Promise<LiveSource> {
  const place = choosePlace(flags, io.env);
  if (place.kind === "kubernetes") {
    const { connect } = await import("../kube/connect.ts");
    const { KubeSource } = await import("./kube-source.ts");
    return new KubeSource(await connect(flags, io));
  }
  const { openLabSource } = await import("./lab-source.ts");
  if (flags.verbose) io.err(`using the lab at ${place.dir} (${place.why})`);
  return await openLabSource(place.dir, io);
}

export function gatherOptions(flags: SourceFlags, io: Io): GatherOptions {
  return { node: flags.node, timeoutMs: flags.timeout, signal: io.signal };
}
