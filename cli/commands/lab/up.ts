// `ambit lab up`
import { basename } from "node:path";
import * as Flags from "@oclif/core/flags";
import { AmbitCommand } from "../../command.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { API_VERSION } from "../../render/output.ts";
import { defaultStateDir } from "../../../lab/state.ts";

export class LabUp extends AmbitCommand {
  static override summary =
    "Start a mesh on this machine: nodes, istiod, and a ztunnel and CNI agent on each.";
  static override description =
    "Everything lives in network namespaces of its own, as root or in a user namespace, and goes on in the background until `ambit lab down`.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --nodes a,b,c --families dual",
  ];
  static override flags = {
    nodes: Flags.string({
      summary: "Names of the nodes, at most ten characters each.",
      default: "a,b",
    }),
    families: Flags.string({
      summary: "Addresses of pods, services and nodes.",
      options: ["ipv4", "ipv6", "dual"] as const,
      default: "ipv4",
    }),
    "no-mesh": Flags.boolean({ summary: "Nodes only; start no part of the mesh." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags, metadata } = await this.parse(LabUp);
    const nodes = flags.nodes.split(",").map((n) => n.trim());
    for (const [i, node] of nodes.entries())
      if (!/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/.test(node) || nodes.indexOf(node) !== i)
        throw new CliError(
          "USAGE",
          `--nodes: ${JSON.stringify(node)} is no name, or is given twice`,
          ["names are up to ten lower-case letters, digits and dashes, separated by commas"],
        );
    const dir = flags.lab ?? defaultStateDir(this.io.env);
    const { labUp } = await import("../../../lab/client.ts");
    this.io.err(`starting a lab of ${nodes.length} nodes at ${dir}`);
    const isDefault = metadata.flags["timeout"]?.setFromDefault === true;
    const state = await labUp({
      dir,
      nodes,
      families: flags.families as "ipv4" | "ipv6" | "dual",
      mesh: !flags["no-mesh"],
      timeoutMs: isDefault ? 60_000 : flags.timeout,
    });
    await this.showOne(
      {
        text: `lab at ${dir} started\n`,
        document: { apiVersion: API_VERSION, kind: "Lab", ...state },
        names: [`lab/${basename(dir)}`],
      },
      flags,
    );
    this.io.err("next: ambit lab status, ambit lab run, ambit lab exec; ambit lab down ends it");
    return EXIT.ok;
  }
}
