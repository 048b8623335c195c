// `ambit lab run`
import * as Flags from "@oclif/core/flags";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { argument } from "../../flags.ts";
import { parseLabelChanges } from "../../kube/label-changes.ts";
import { LabCommand } from "../../lab-command.ts";
import { API_VERSION } from "../../render/output.ts";

export class LabRun extends LabCommand {
  static override summary = "Make a pod in the lab and run a program of this machine in it.";
  static override description =
    "The pod gets its network from a CNI chain, and its objects in the manifest directory, as a kubelet would do it. With --port a Service of the same name leads to it.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> server -n shop --node b --port 80:8080 -- python3 -m http.server 8080",
    "<%= config.bin %> <%= command.id %> client -n shop --node a -l app=client -- sleep infinity",
  ];
  static override usage = "lab run NAME --node <node> [FLAGS] [-- PROGRAM...]";
  static override strict = false;
  static override args = {
    name: argument({ description: "Name of the pod; then -- and the program.", required: true }),
  };
  static override flags = {
    node: Flags.string({ summary: "Node to run on.", required: true }),
    label: Flags.string({
      char: "l",
      summary: "Label of the pod, key=value; default app=<name>.",
      multiple: true,
      multipleNonGreedy: true,
    }),
    "service-account": Flags.string({ summary: "Its identity; default: the pod's name." }),
    port: Flags.string({
      summary: "Service port and the pod's port, 80:8080.",
      helpValue: "<port>:<port>",
    }),
  };

  override async run(): Promise<ExitCode> {
    const end = this.argv.indexOf("--");
    const command = end < 0 ? [] : this.argv.slice(end + 1);
    const { argv, args, flags } = await this.parse(
      LabRun,
      end < 0 ? this.argv : this.argv.slice(0, end),
    );
    if (argv.length > 1)
      throw new CliError("USAGE", `Unexpected: ${argv.slice(1).map(String).join(" ")}`, [
        "the program follows --",
      ]);
    const { name } = args;
    const namespace = flags.namespace ?? "default";
    const labels = parseLabelChanges(flags.label ?? [`app=${name}`]);
    const ports = flags.port === undefined ? null : parsePorts(flags.port);
    const state = await this.runningLab(flags);
    const { labRequest } = await import("../../../lab/client.ts");
    const pod = await labRequest(state, "POST", "/pods", {
      node: flags.node,
      name,
      namespace,
      labels,
      serviceAccount: flags["service-account"] ?? name,
      ...(command.length === 0 ? {} : { command }),
      ...(ports === null ? {} : { readyPort: ports.target }),
    });
    if (ports !== null)
      await labRequest(state, "POST", "/services", {
        name,
        namespace,
        selector: labels,
        ports: [{ port: ports.port, targetPort: ports.target }],
      });
    const made = [`pod/${name}`, ...(ports === null ? [] : [`service/${name}`])];
    await this.showOne(
      {
        text: made.map((m) => `${m} created\n`).join(""),
        document: { apiVersion: API_VERSION, kind: "LabPod", pod, made },
        names: made,
      },
      flags,
    );
    return EXIT.ok;
  }
}

/** @throws {CliError} USAGE */
function parsePorts(text: string): { readonly port: number; readonly target: number } {
  const m = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text);
  const port = Number(m?.[1]);
  const target = Number(m?.[2] ?? m?.[1]);
  if (!(port >= 1 && port <= 65_535 && target >= 1 && target <= 65_535))
    throw new CliError("USAGE", `Not a pair of ports: ${JSON.stringify(text)}`, ["write 80:8080"]);
  return { port, target };
}
