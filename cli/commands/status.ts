// `ambit status`
import * as Flags from "@oclif/core/flags";
import { EXIT, type ExitCode } from "../errors.ts";
import type { Globals } from "../command.ts";
import type { Kube } from "../kube/connect.ts";
import { KubeCommand } from "../kube-command.ts";
import { listDocument } from "../render/output.ts";
import { renderTable, type Column } from "../render/table.ts";
import type { NamespaceRow } from "../status/namespaces.ts";
import type { ComponentStatus, MeshStatus, NodeStatus } from "../status/components.ts";

interface Answer {
  readonly mesh: MeshStatus;
  readonly namespaces: readonly NamespaceRow[];
}

export class Status extends KubeCommand {
  static override summary = "Say how the parts of the mesh stand, and how many pods are in it.";
  static override description =
    "XDS counts the ztunnels that have acknowledged all that istiod knows, CERTS the identities with a valid certificate, VERSION is what a part says of itself or, where nobody says it, the tag of its image. -o wide adds a row for each node. Exits 3 when a part is not ready, 4 when there is no mesh; --wait returns when all is ready, or 5.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --wait --timeout 5m",
    "<%= config.bin %> <%= command.id %> -o wide --watch",
  ];
  static override flags = {
    watch: Flags.boolean({ char: "w", summary: "Show it again whenever it changes." }),
    wait: Flags.boolean({ summary: "Return when everything is ready, at most --timeout." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Status);
    const kube = await this.connect(flags);
    const look = () => this.#look(kube, flags.timeout);
    if (flags.watch) {
      const { repeat } = await import("../kube/repeat.ts");
      const key = ({ mesh, namespaces }: Answer): string => JSON.stringify([mesh, namespaces]);
      await repeat(look, key, (answer) => this.#print(answer, flags), this.io);
      return EXIT.interrupted;
    }
    const deadline = Date.now() + flags.timeout;
    let answer = await look();
    while (flags.wait && !isAllReady(answer) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      this.io.signal.throwIfAborted();
      answer = await look();
    }
    await this.#print(answer, flags);
    if (isAllReady(answer)) return EXIT.ok;
    return flags.wait ? EXIT.timeout : EXIT.finding;
  }

  async #look(kube: Kube, timeoutMs: number): Promise<Answer> {
    const { readMeshStatus } = await import("../status/components.ts");
    const { readNamespaces } = await import("../status/namespaces.ts");
    const options = { timeoutMs, signal: this.io.signal };
    const [mesh, namespaces] = await Promise.all([
      readMeshStatus(kube, options),
      readNamespaces(kube.cluster, kube.meshNamespace),
    ]);
    return { mesh, namespaces };
  }

  async #print({ mesh, namespaces }: Answer, flags: Globals): Promise<void> {
    this.warnPartial(mesh.partial);
    const enrolled = namespaces.filter((n) => n.mode === "ambient");
    const sum = (of: (n: NamespaceRow) => number): number =>
      namespaces.reduce((total, n) => total + of(n), 0);
    const enrolment = {
      namespaces: enrolled.length,
      captured: sum((n) => n.captured),
      pending: sum((n) => n.pending),
    };
    const headers = !flags["no-headers"];
    const isWide = this.format(flags) === "wide";
    const nodes = isWide
      ? mesh.components.flatMap((c) => c.nodes.map((n) => ({ component: c.component, ...n })))
      : [];
    const text = [
      renderTable(mesh.components, COLUMNS, { headers }),
      nodes.length === 0 ? "" : `\n${renderTable(nodes, NODE_COLUMNS, { headers })}`,
      `\n${enrolment.namespaces} namespace${enrolment.namespaces === 1 ? "" : "s"} enrolled, ${enrolment.captured} pod${enrolment.captured === 1 ? "" : "s"} captured, ${enrolment.pending} pending\n`,
    ].join("");
    const generatedAt = new Date(this.io.now()).toISOString();
    await this.showOne(
      {
        text,
        document: listDocument("MeshStatus", mesh.components, {
          generatedAt,
          partial: mesh.partial,
          enrolment,
        }),
        names: mesh.components.map((c) => `component/${c.component}`),
      },
      flags,
    );
  }
}

function isAllReady({ mesh }: Answer): boolean {
  return mesh.components.every((c) => c.isReady);
}

const COLUMNS: readonly Column<ComponentStatus>[] = [
  { header: "COMPONENT", value: (c) => c.component },
  { header: "DESIRED", value: (c) => String(c.desired) },
  { header: "READY", value: (c) => String(c.ready) },
  { header: "VERSION", value: (c) => c.version || "-" },
  { header: "XDS", value: (c) => c.xds || "-" },
  { header: "CERTS", value: (c) => c.certs || "-" },
  { header: "MESSAGE", value: (c) => c.message || "-" },
];

const NODE_COLUMNS: readonly Column<NodeStatus & { readonly component: string }>[] = [
  { header: "NODE", value: (n) => n.node || "-" },
  { header: "COMPONENT", value: (n) => n.component },
  { header: "POD", value: (n) => n.pod },
  { header: "READY", value: (n) => String(n.isReady) },
  { header: "VERSION", value: (n) => n.version || "-" },
  { header: "XDS", value: (n) => n.xds || "-" },
  { header: "MESSAGE", value: (n) => n.message || "-" },
];
