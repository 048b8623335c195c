// `ambit demo`
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { resolve } from "node:path";
import { AmbitCommand } from "../command.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { API_VERSION } from "../render/output.ts";

export class Demo extends AmbitCommand {
  static override summary = "Show the mesh on this machine, start to end, in under two minutes.";
  static override description =
    "Makes two nodes with pods, enrols their namespace while connections are busy, proves with a packet capture what the link carries before and after, applies policies, and takes everything down again. Nothing is left behind.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> -o json",
  ];

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Demo);
    // Programs get the outcome; the story goes to stderr then.
    const isForPeople = ["table", "wide"].includes(this.format(flags));
    const code = await this.#play(isForPeople ? "inherit" : 2);
    if (isForPeople) return code;
    if (code === EXIT.interrupted) throw new CliError("INTERRUPTED", "Interrupted");
    if (code !== EXIT.ok) throw new CliError("FAILED", `The demo ended with status ${code}`);
    const document = { apiVersion: API_VERSION, kind: "DemoResult", result: "passed" };
    await this.showOne({ text: "", document, names: ["demo/passed"] }, flags);
    return code;
  }

  /** A process of its own: it starts itself again inside new namespaces. */
  async #play(stdout: "inherit" | 2): Promise<ExitCode> {
    const program = resolve(import.meta.dirname, "../../lab/demo.ts");
    const child = spawn(process.execPath, [program], { stdio: ["inherit", stdout, "inherit"] });
    this.io.ignoreInterrupts();
    const stop = (): void => void child.kill("SIGTERM");
    this.io.signal.addEventListener("abort", stop, { once: true });
    return await new Promise((done, reject) => {
      child.once("error", (error) =>
        reject(new CliError("FAILED", `Cannot start the demo: ${error.message}`, [], error)),
      );
      child.once("exit", (code, signal) =>
        done((code ?? 128 + (signal === null ? 0 : constants.signals[signal])) as ExitCode),
      );
    });
  }
}
