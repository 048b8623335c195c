// What every command has in common: global flags, where output goes, and how a view is printed.
import { Command } from "@oclif/core/command";
import { EXIT, type ExitCode } from "./errors.ts";
import { globalFlags } from "./flags.ts";
import type { Io } from "./io.ts";
import {
  renderJson,
  renderView,
  renderYaml,
  type OutputFormat,
  type Unanswered,
  type View,
  wantsJson,
} from "./render/output.ts";

/** The global flags after parsing, as commands use them. */
export interface Globals {
  readonly namespace?: string | undefined;
  readonly "all-namespaces": boolean;
  readonly output: OutputFormat;
  readonly json: boolean;
  readonly "no-headers": boolean;
  readonly timeout: number;
  readonly verbose: boolean;
  readonly lab?: string | undefined;
  readonly context?: string | undefined;
  readonly kubeconfig?: string | undefined;
  readonly as?: string | undefined;
  readonly "as-group"?: string[] | undefined;
  readonly "istio-namespace"?: string | undefined;
}

export abstract class AmbitCommand extends Command {
  static override baseFlags = globalFlags;

  /** Set by program.ts before `run`. */
  io!: Io;

  /** Returns the exit code; throws `CliError`. Output goes through `io`, data on stdout only. */
  abstract override run(): Promise<ExitCode>;

  override jsonEnabled(): boolean {
    return wantsJson(this.argv);
  }

  protected format(flags: Globals): OutputFormat {
    return flags.json ? "json" : flags.output;
  }

  /** Prints `view`; what could not be asked goes to stderr as one line. */
  protected async show<T>(
    view: View<T>,
    flags: Globals,
    partial: readonly Unanswered[] = [],
  ): Promise<ExitCode> {
    this.warnPartial(partial);
    const text = await renderView(view, this.format(flags), !flags["no-headers"]);
    if (text === null) this.io.err(view.empty);
    else await this.io.out(text);
    return EXIT.ok;
  }

  /**
   * Prints a result that is no list: `text` for people, `document` for programs.
   * @param names lines of `-o name`; the text stands in when there is nothing to name
   */
  protected async showOne(
    result: {
      readonly text: string;
      readonly document: unknown;
      readonly names?: readonly string[];
    },
    flags: Globals,
  ): Promise<void> {
    const format = this.format(flags);
    switch (format) {
      case "json":
        return await this.io.out(renderJson(result.document));
      case "yaml":
        return await this.io.out(await renderYaml(result.document));
      case "name":
        if (result.names !== undefined)
          return await this.io.out(result.names.map((n) => `${n}\n`).join(""));
        return await this.io.out(result.text);
      case "table":
      case "wide":
        return await this.io.out(result.text);
      default:
        return format satisfies never;
    }
  }

  protected warnPartial(partial: readonly Unanswered[]): void {
    if (partial.length === 0) return;
    const which = partial.map((p) => `${p.node} (${p.error})`).join(", ");
    this.io.err(`warning: ${partial.length} node(s) did not answer: ${which}`);
  }
}
