// `ambit lab status`
import { EXIT, type ExitCode } from "../../errors.ts";
import { LabCommand } from "../../lab-command.ts";
import { API_VERSION } from "../../render/output.ts";
import { renderTable } from "../../render/table.ts";

export class LabStatus extends LabCommand {
  static override summary = "Show the lab's nodes, the mesh's parts and the pods.";
  static override description = "Exits 3 when a part of the mesh has ended.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> -o json",
  ];

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(LabStatus);
    const state = await this.runningLab(flags);
    const { labStatus } = await import("../../../lab/client.ts");
    const status = await labStatus(state);
    const options = { headers: !flags["no-headers"], wide: flags.output === "wide" };
    const text = [
      renderTable(
        status.nodes,
        [
          { header: "NODE", value: (n) => n.name },
          { header: "ADDRESSES", value: (n) => n.addresses.join(",") },
          { header: "POD CIDRS", value: (n) => n.podCidrs.join(",") },
        ],
        options,
      ),
      renderTable(
        status.parts,
        [
          { header: "PART", value: (p) => p.name },
          { header: "NODE", value: (p) => p.node ?? "-" },
          { header: "STATE", value: (p) => p.state },
          { header: "PID", value: (p) => String(p.pid ?? "-") },
          { header: "LOG", wide: true, value: (p) => p.logFile },
        ],
        options,
      ),
      renderTable(
        status.pods,
        [
          { header: "NAMESPACE", value: (p) => p.namespace },
          { header: "POD", value: (p) => p.name },
          { header: "NODE", value: (p) => p.node },
          { header: "IPS", value: (p) => p.ips.join(",") },
          { header: "PROCESS", value: (p) => processText(p.process) },
        ],
        options,
      ),
    ].join("\n");
    const document = { apiVersion: API_VERSION, kind: "LabStatus", ...status };
    const names = [
      ...status.nodes.map((n) => `node/${n.name}`),
      ...status.parts.map((p) => `part/${p.name}${p.node === null ? "" : `.${p.node}`}`),
      ...status.pods.map((p) => `pod/${p.name}.${p.namespace}`),
    ];
    await this.showOne({ text, document, names }, flags);
    return status.parts.some((p) => p.state.startsWith("ended")) ? EXIT.finding : EXIT.ok;
  }
}

function processText(
  p: { readonly running: boolean; readonly exitCode: number | null } | null,
): string {
  if (p === null) return "-";
  return p.running ? "running" : `ended (${p.exitCode ?? "signal"})`;
}
