// What commands share that only make sense in a Kubernetes cluster.
import { AmbitCommand, type Globals } from "./command.ts";
import { CliError } from "./errors.ts";
import type { Kube } from "./kube/connect.ts";

export abstract class KubeCommand extends AmbitCommand {
  /** @throws {CliError} USAGE for `--lab`, or what opening the cluster fails with */
  protected async connect(flags: Globals): Promise<Kube> {
    const { connectOnly } = await import("./kube/connect.ts");
    return await connectOnly(flags, this.io, (this.id ?? "").replaceAll(":", " "));
  }

  /** Ends waits: the interrupt, or `timeoutMs` from now. */
  protected deadline(timeoutMs: number): AbortSignal {
    return AbortSignal.any([this.io.signal, AbortSignal.timeout(timeoutMs)]);
  }

  /**
   * Asks y/N on a terminal; `yes` answers beforehand.
   * @throws {CliError} USAGE where nobody can be asked, FAILED when the answer is no
   */
  protected async confirm(question: string, yes: boolean): Promise<void> {
    if (yes) return;
    if (!this.io.stdoutIsTty || !this.io.stdinIsTty)
      throw new CliError("USAGE", `${question} Nobody can be asked here`, [
        "add -y to answer yes beforehand",
      ]);
    const answer = await this.io.ask(`${question} [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw new CliError("FAILED", "Nothing was changed");
  }
}
