// oclif's help, written to our own streams and with the mesh's words for the top page.
import { CommandHelp, Help } from "@oclif/core/help";

/** The usage line names arguments only: the global flags would fill three lines of it. */
class AmbitCommandHelp extends CommandHelp {
  protected override defaultUsage(): string {
    const { id, args } = this.command;
    const words = Object.values(args ?? {}).map((a) => this.arg(a));
    const more = this.command.strict === false && words.length > 0 ? "..." : "";
    return [id, `${words.join(" ")}${more}`, "[FLAGS]"].filter((w) => w !== "").join(" ");
  }
}

/** oclif trims a list of flags, and so moves a first one without short form to the left of those below it. */
const UNALIGNED = /^((?:GLOBAL )?FLAGS\n {2})(--\S.*\n(?: {7,}.*\n)*(?= {2}-\w, | {6}--))/gm;

export class AmbitHelp extends Help {
  protected override CommandHelpClass = AmbitCommandHelp;
  #lines: string[] = [];

  /** What `showHelp` would have printed. `words`: the command line without its help flag. */
  async text(words: readonly string[]): Promise<string> {
    this.#lines = [];
    await this.showHelp([...words]);
    return `${this.#lines.join("\n").replace(UNALIGNED, "$1    $2").trimEnd()}\n`;
  }

  /** The top page: what this is and how a line is built. oclif's names its own Node instead. */
  override formatRoot(): string {
    return `Ambit: an ambient-mode service mesh.\n\n${this.section("USAGE", `$ ${this.config.bin} COMMAND [ARGUMENTS] [FLAGS]`)}`;
  }

  protected override log(...args: string[]): void {
    this.#lines.push(args.join(" ").replace(/[ \t]+$/gm, ""));
  }
}
