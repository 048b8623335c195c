// `ambit bug-report`
import { open } from "node:fs/promises";
import * as Flags from "@oclif/core/flags";
import { CliError, EXIT, fileProblem, type ExitCode } from "../errors.ts";
import { duration } from "../flags.ts";
import { KubeCommand } from "../kube-command.ts";
import { API_VERSION } from "../render/output.ts";
import { formatBytes } from "../render/units.ts";

export class BugReport extends KubeCommand {
  static override summary =
    "Put together what helps to find a fault: objects, logs and what each part knows.";
  static override description =
    "Writes one archive to read before it is sent. Secrets are never read; tokens, keys and passwords found elsewhere are blotted out, and pods outside the mesh's namespace come without environment, command and arguments. What could not be had is named in missing.json.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --since 10m --include shop --out report.tar.gz",
  ];
  static override flags = {
    since: duration({
      summary: "How far back logs go.",
      default: 3_600_000,
      defaultHelp: async () => "1h",
    }),
    include: Flags.string({
      summary: "Objects of this namespace; by default of those enrolled.",
      helpValue: "<namespace>",
      multiple: true,
      multipleNonGreedy: true,
    }),
    exclude: Flags.string({
      summary: "Nothing of this namespace.",
      helpValue: "<namespace>",
      multiple: true,
      multipleNonGreedy: true,
    }),
    out: Flags.string({
      summary: "Where to; a name with the time by default.",
      helpValue: "<file>",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(BugReport);
    const kube = await this.connect(flags);
    const { collect } = await import("../bug-report/collect.ts");
    const { tar } = await import("../bug-report/tar.ts");
    const { gzipSync } = await import("node:zlib");
    this.io.err(`asking ${kube.name}`);
    await kube.server.version(this.deadline(flags.timeout));
    const { files, missing } = await collect(kube, this.io, {
      sinceMs: flags.since,
      timeoutMs: flags.timeout,
      include: flags.include ?? null,
      exclude: flags.exclude ?? [],
    });
    const time = new Date(this.io.now()).toISOString().replace(/[-:]|\.\d+/g, "");
    const root = `ambit-bug-report-${time}`;
    const out = flags.out ?? `${root}.tar.gz`;
    const all = [
      ...files,
      { path: "missing.json", content: `${JSON.stringify(missing, null, 2)}\n` },
    ];
    const archive = gzipSync(
      tar(
        all.map((f) => ({ ...f, path: `${root}/${f.path}` })),
        this.io.now(),
      ),
    );
    await writeNew(out, archive);
    if (missing.length > 0)
      this.io.err(
        `warning: ${missing.length} part(s) could not be had, see missing.json: ${missing
          .slice(0, 3)
          .map((m) => m.path)
          .join(", ")}`,
      );
    this.io.err("read it before you send it: names of your objects are in it");
    await this.showOne(
      {
        text: `${out} (${all.length} files, ${formatBytes(archive.length)})\n`,
        document: {
          apiVersion: API_VERSION,
          kind: "BugReport",
          file: out,
          bytes: archive.length,
          items: all.map((f) => f.path),
          missing,
        },
        names: [`file/${out}`],
      },
      flags,
    );
    return EXIT.ok;
  }
}

/** For its owner's eyes, and over nothing that is there. @throws {CliError} */
async function writeNew(file: string, bytes: Uint8Array): Promise<void> {
  try {
    await using handle = await open(file, "wx", 0o600);
    await handle.writeFile(bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST")
      throw new CliError("CONFLICT", `${file} is there already`, [
        "choose another name with --out",
      ]);
    throw new CliError("FAILED", `Cannot write ${file}: ${fileProblem(error)}`, [], error);
  }
}
