// `ambit version`
import * as Flags from "@oclif/core/flags";
import { AmbitCommand } from "../command.ts";
import { clientVersion } from "../client-version.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { sourceFlags } from "../flags.ts";
import { API_VERSION, type Unanswered } from "../render/output.ts";
import { parseConfigDump } from "../source/config-dump.ts";
import { gather, type GatherOptions } from "../source/mesh-source.ts";
import { gatherOptions, openLiveSource, openSource, type SourceFlags } from "../source/open.ts";

/** Failures that mean there is no mesh to ask. */
const NO_MESH: ReadonlySet<string> = new Set(["UNREACHABLE", "NOT_FOUND"]);

interface Mesh {
  readonly controlPlane: string | null;
  readonly dataPlane: readonly DataPlane[];
  readonly partial: readonly Unanswered[];
}

interface DataPlane {
  readonly node: string;
  readonly version: string;
}

export class Version extends AmbitCommand {
  static override summary = "Show the version of this program and of the mesh it reaches.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --client -o json",
  ];
  static override flags = {
    ...sourceFlags,
    client: Flags.boolean({ summary: "Only this program." }),
    short: Flags.boolean({ char: "s", summary: "Only the numbers." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Version);
    const client = clientVersion();
    const mesh = flags.client ? null : await this.#mesh(flags);
    const lines = [flags.short ? client : `client version: ${client}`];
    const controlPlane = mesh?.controlPlane ?? null;
    if (controlPlane !== null)
      lines.push(flags.short ? controlPlane : `control plane version: ${controlPlane}`);
    for (const [version, count] of countBy(mesh?.dataPlane ?? []))
      lines.push(
        flags.short
          ? version
          : `data plane version: ${version} (${count} ztunnel${count === 1 ? "" : "s"})`,
      );
    const skew = (mesh?.dataPlane ?? []).filter((d) => d.version !== client);
    if (skew.length > 0)
      this.io.err(
        `warning: ${skew.length} ztunnel(s) run another version than this program: ${skew.map((d) => `${d.node} ${d.version}`).join(", ")}`,
      );
    const document = {
      apiVersion: API_VERSION,
      kind: "Version",
      client: { version: client },
      ...(controlPlane === null ? {} : { controlPlane: { version: controlPlane } }),
      dataPlane: mesh?.dataPlane ?? [],
      meta: { generatedAt: new Date(this.io.now()).toISOString(), partial: mesh?.partial ?? [] },
    };
    await this.showOne(
      { text: `${lines.join("\n")}\n`, document, names: [`client/${client}`] },
      flags,
    );
    return EXIT.ok;
  }

  /** No mesh to reach is an answer here, not a failure; a file that cannot be read is one. */
  async #mesh(flags: SourceFlags): Promise<Mesh | null> {
    try {
      const source = await openSource(flags, this.io);
      const options = gatherOptions(flags, this.io);
      const { answers, partial } = await gather(source, "/config_dump", parseConfigDump, options);
      this.warnPartial(partial);
      return {
        controlPlane: await this.#controlPlane(flags, options),
        dataPlane: answers.map((a) => ({ node: a.node, version: a.value.version || "unknown" })),
        partial,
      };
    } catch (error) {
      if (!(error instanceof CliError) || !NO_MESH.has(error.code)) throw error;
      this.io.err(`${error.message}; showing this program's version only`);
      for (const hint of error.hints) this.io.err(`  ${hint}`);
      return null;
    }
  }

  /** `null` when there is none to ask: a file, or a lab without istiod. */
  async #controlPlane(flags: SourceFlags, options: GatherOptions): Promise<string | null> {
    if (flags.file !== undefined) return null;
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
    try {
      return await (await openLiveSource(flags, this.io)).istiodVersion(signal);
    } catch (error) {
      options.signal.throwIfAborted();
      this.io.err(`warning: istiod did not answer: ${(error as Error).message}`);
      return null;
    }
  }
}

function countBy(planes: readonly DataPlane[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const p of planes) counts.set(p.version, (counts.get(p.version) ?? 0) + 1);
  return counts;
}
