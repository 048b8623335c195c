// `ambit apply`
import * as Flags from "@oclif/core/flags";
import { AmbitCommand } from "../command.ts";
import { EXIT, type ExitCode } from "../errors.ts";
import { applyObject, type Applied } from "../kube/apply-object.ts";
import { openCluster } from "../kube/open-cluster.ts";
import { readForServer, readManifests } from "../kube/read-manifests.ts";
import { choosePlace } from "../place.ts";
import { API_VERSION } from "../render/output.ts";

export class Apply extends AmbitCommand {
  static override summary = "Create or change objects from manifests.";
  static override description =
    "Everything is read before anything is changed. Fields that a manifest leaves out are removed; labels and annotations set by others stay. In a cluster this is server-side apply by the field manager ambit.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -f policy.yaml",
    "cat policy.yaml | <%= config.bin %> <%= command.id %> -n shop -f -",
  ];
  static override flags = {
    file: Flags.string({
      char: "f",
      aliases: ["filename"],
      summary: "Manifest file, directory of manifests, or - for stdin.",
      required: true,
      multiple: true,
      multipleNonGreedy: true,
    }),
    "dry-run": Flags.boolean({ summary: "Say what would change, and change nothing." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Apply);
    const { kind } = choosePlace(flags, this.io.env);
    const read = kind === "lab" ? readManifests : readForServer;
    const objects = await read(flags.file, this.io);
    const mesh = await openCluster(flags, this.io);
    const options = { namespace: flags.namespace, dryRun: flags["dry-run"] };
    const results: Applied[] = [];
    for (const object of objects) results.push(await applyObject(mesh, object, options));
    const suffix = flags["dry-run"] ? " (dry run)" : "";
    const text = results.map((r) => `${r.object} ${r.change}${suffix}\n`).join("");
    const document = {
      apiVersion: API_VERSION,
      kind: "ApplyResult",
      dryRun: flags["dry-run"],
      items: results,
    };
    await this.showOne({ text, document, names: results.map((r) => r.object) }, flags);
    return EXIT.ok;
  }
}
