// `ambit demo`
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { resolve } from "node:path";
import { text } from "node:stream/consumers";
import { AmbitCommand } from "../command.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { API_VERSION } from "../render/output.ts";
import { parseJson } from "../source/json.ts";

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
    const { code, report } = await this.#play(isForPeople);
    if (isForPeople) return code;
    if (code === EXIT.interrupted) throw new CliError("INTERRUPTED", "Interrupted");
    if (code !== EXIT.ok) throw new CliError("FAILED", `The demo ended with status ${code}`);
    const steps = parseJson(report, "the demo's report").at("steps").value;
    const document = { apiVersion: API_VERSION, kind: "DemoResult", result: "passed", steps };
    await this.showOne({ text: "", document, names: ["demo/passed"] }, flags);
    return code;
  }

  /** A process of its own, since it starts itself again inside new namespaces; it ends with us, however we end. */
  async #play(isForPeople: boolean): Promise<{ readonly code: ExitCode; readonly report: string }> {
    const program = resolve(import.meta.dirname, "../../lab/demo.ts");
    const child = spawn(
      "setpriv",
      ["--pdeathsig", "TERM", process.execPath, program, ...(isForPeople ? [] : ["--json"])],
      { stdio: ["inherit", isForPeople ? "inherit" : "pipe", "inherit"] },
    );
    this.io.ignoreInterrupts();
    const stop = (): void => void child.kill("SIGTERM");
    this.io.signal.addEventListener("abort", stop, { once: true });
    const report = child.stdout === null ? "" : text(child.stdout);
    const code = await new Promise<ExitCode>((done, reject) => {
      child.once("error", (error) =>
        reject(
          new CliError(
            "FAILED",
            `Cannot start the demo: setpriv: ${error.message}`,
            ["make deps installs what it needs"],
            error,
          ),
        ),
      );
      child.once("exit", (status, signal) =>
        done((status ?? 128 + (signal === null ? 0 : constants.signals[signal])) as ExitCode),
      );
    });
    return { code, report: await report };
  }
}
