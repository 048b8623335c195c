// `ambit lab exec`
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { CliError, type ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { LabCommand } from "../../lab-command.ts";

export class LabExec extends LabCommand {
  static override summary = "Run a command inside a pod or on a node of the lab.";
  static override description =
    "The command gets this terminal, and its exit code is ours. It sees the pod's network; the file system is this machine's.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> shop/client -- curl -s http://server.shop:80/",
    "<%= config.bin %> <%= command.id %> node/a -- ip addr",
    "<%= config.bin %> <%= command.id %> istiod -- ss -ltn",
  ];
  static override usage = "lab exec TARGET [FLAGS] -- COMMAND...";
  static override strict = false;
  static override args = {
    target: argument({
      description: "<namespace>/<pod>, node/<node> or istiod; then -- and the command.",
      required: true,
    }),
  };

  override async run(): Promise<ExitCode> {
    // What follows `--` is the command's own, flags included.
    const end = this.argv.indexOf("--");
    const command = end < 0 ? [] : this.argv.slice(end + 1);
    const { argv, flags } = await this.parse(
      LabExec,
      end < 0 ? this.argv : this.argv.slice(0, end),
    );
    const words = argv.map(String);
    const [target = "", ...rest] = words;
    const line = end < 0 ? rest : command;
    if (end >= 0 && rest.length > 0)
      throw new CliError("USAGE", `Unexpected before --: ${rest.join(" ")}`, [
        "one target, then --",
      ]);
    if (line.length === 0)
      throw new CliError("USAGE", `Which command in ${target}?`, [
        `ambit lab exec ${target} -- curl -s http://server/`,
      ]);
    const state = await this.runningLab(flags);
    const { labExecArgv } = await import("../../../lab/client.ts");
    const [file = "", ...args] = await labExecArgv(state, target.replace(/^pod\//, ""), line);
    this.io.ignoreInterrupts();
    return await run(file, args);
  }
}

/** Signals of the terminal reach the child by themselves; its end is ours. */
async function run(file: string, args: readonly string[]): Promise<ExitCode> {
  return await new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit" });
    child.once("error", (error) =>
      reject(new CliError("FAILED", `Cannot start ${file}: ${error.message}`, [], error)),
    );
    child.once("exit", (code, signal) =>
      // Any status is possible here: it belongs to the user's command.
      resolve((code ?? 128 + (signal === null ? 0 : constants.signals[signal])) as ExitCode),
    );
  });
}
