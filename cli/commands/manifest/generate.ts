// `ambit manifest generate`
import * as Flags from "@oclif/core/flags";
import { AmbitCommand } from "../../command.ts";
import { EXIT, type ExitCode } from "../../errors.ts";
import {
  BASE,
  findProfile,
  givenProfile,
  manifestFlags,
  readSettings,
  renderProfile,
} from "../../install/profile.ts";
import { planStages, STAGES } from "../../install/stages.ts";
import { idOf } from "../../manifest/object-id.ts";

export class ManifestGenerate extends AmbitCommand {
  static override summary = "Print what ambit install would apply, in the order it applies it.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> --profile production > ambit.yaml",
    "<%= config.bin %> <%= command.id %> --set image=registry.example.org/ambit:1.0.0 | kubectl apply --server-side -f -",
  ];
  static override flags = {
    ...manifestFlags,
    profile: Flags.string({
      summary: "base, or one of manifests/overlays (kind, production).",
      default: BASE,
      helpValue: "<name>",
    }),
    component: Flags.string({
      summary: "Only this stage.",
      options: STAGES,
      multiple: true,
      multipleNonGreedy: true,
    }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(ManifestGenerate);
    const wanted = new Set<string>(flags.component ?? STAGES);
    const settings = await readSettings(flags, this.io);
    const profile = (await givenProfile(flags)) ?? (await findProfile(BASE));
    const objects = planStages(await renderProfile(profile, settings))
      .filter((p) => wanted.has(p.stage))
      .flatMap((p) => p.objects);
    const { stringify } = await import("yaml");
    const text = objects
      .map((o) => stringify(o, { lineWidth: 0, aliasDuplicateObjects: false }))
      .join("---\n");
    const document = { apiVersion: "v1", kind: "List", items: objects };
    await this.showOne({ text, document, names: objects.map(idOf) }, flags);
    return EXIT.ok;
  }
}
