// `ambit completion`
import { AmbitCommand } from "../command.ts";
import { completionModel } from "../completion/model.ts";
import { SHELLS, type Shell } from "../completion/values.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { argument } from "../flags.ts";
import { API_VERSION } from "../render/output.ts";
import { didYouMean } from "../suggest.ts";

export class Completion extends AmbitCommand {
  static override summary = "Print a script that completes this command line in a shell.";
  static override description =
    "Commands, flags and their values come from the script; names of pods, services, namespaces and nodes from the lab, when one runs, else from the cluster of the kubeconfig. Write it again after an update.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> bash > ~/.local/share/bash-completion/completions/ambit",
    "<%= config.bin %> <%= command.id %> zsh > ~/.zfunc/_ambit   # a directory of $fpath, before compinit",
    "<%= config.bin %> <%= command.id %> fish > ~/.config/fish/completions/ambit.fish",
    "source <(<%= config.bin %> <%= command.id %> bash)",
  ];
  static override args = {
    shell: argument({ description: `${SHELLS.join(", ")}.`, required: true }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(Completion);
    const shell = SHELLS.find((s) => s === args.shell);
    if (shell === undefined)
      throw new CliError("USAGE", `No completion for ${JSON.stringify(args.shell)}`, [
        ...didYouMean(args.shell, SHELLS),
        `there is one for ${SHELLS.join(", ")}`,
      ]);
    const text = await this.#script(shell);
    const document = { apiVersion: API_VERSION, kind: "CompletionScript", shell, script: text };
    await this.showOne({ text, document, names: [`completion/${shell}`] }, flags);
    return EXIT.ok;
  }

  async #script(shell: Shell): Promise<string> {
    const model = completionModel(this.config);
    switch (shell) {
      case "bash":
        return (await import("../completion/bash.ts")).bashScript(model);
      case "zsh":
        return (await import("../completion/zsh.ts")).zshScript(model);
      case "fish":
        return (await import("../completion/fish.ts")).fishScript(model);
      default:
        return shell satisfies never;
    }
  }
}
