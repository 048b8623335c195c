// `ambit check`
import * as Flags from "@oclif/core/flags";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { CheckResult, Phase } from "../check/check.ts";
import { EXIT, type ExitCode } from "../errors.ts";
import { requireObject } from "../kube/open-cluster.ts";
import { KubeCommand } from "../kube-command.ts";
import { API_VERSION } from "../render/output.ts";

export class Check extends KubeCommand {
  static override summary =
    "Look for what is wrong with a cluster, the mesh in it, or a namespace.";
  static override description =
    "With --pre: may the mesh be installed? Without: does it run, and is what namespaces ask for so? Each check has an id that stays; a finding comes with what helps. Exits 3 when an error is found, or with --fail-on warning a warning; 6 when nothing could be checked.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> --pre",
    "<%= config.bin %> <%= command.id %> -n shop",
    "<%= config.bin %> <%= command.id %> --node worker-1",
    "<%= config.bin %> <%= command.id %> --only C40,C41 -o json",
  ];
  static override flags = {
    pre: Flags.boolean({ summary: "What an installation needs." }),
    node: Flags.string({
      summary: "Only what concerns this node: its agent, its ztunnel, its pods.",
      helpValue: "<node>",
    }),
    only: Flags.string({
      summary: "Only these checks.",
      helpValue: "<id>",
      multiple: true,
      delimiter: ",",
    }),
    "fail-on": Flags.string({
      summary: "Least severity that makes the exit status 3.",
      options: ["error", "warning"] as const,
      default: "error",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Check);
    const kube = await this.connect(flags);
    if (flags.node !== undefined)
      await requireObject(kube.cluster, RESOURCES.nodes, null, flags.node);
    const { runChecks } = await import("../check/run.ts");
    const results = await runChecks(kube, phasesFor(flags), {
      io: this.io,
      timeoutMs: flags.timeout,
      namespace: flags.namespace,
      node: flags.node,
      only: flags.only?.map((id) => id.toUpperCase()),
    });
    const has = (result: CheckResult["result"]): boolean =>
      results.some((r) => r.result === result);
    const failed = has("error") || (flags["fail-on"] === "warning" && has("warning"));
    await this.showOne(
      {
        text: sectionsText(results, this.format(flags) === "wide"),
        document: checkDocument(results),
        names: results.map((r) => `check/${r.id}`),
      },
      flags,
    );
    if (failed) return EXIT.finding;
    // All silence is no good news.
    const looked = results.filter((r) => r.result !== "skipped");
    const isBlind = looked.length > 0 && looked.every((r) => r.isUnchecked === true);
    return isBlind ? EXIT.unreachable : EXIT.ok;
  }
}

function phasesFor(flags: {
  readonly pre: boolean;
  readonly namespace?: string | undefined;
  readonly only?: readonly string[] | undefined;
}): readonly Phase[] {
  if (flags.only !== undefined) return ["pre", "post", "namespace"];
  if (flags.pre) return ["pre"];
  return flags.namespace === undefined ? ["post", "namespace"] : ["namespace"];
}

const SECTIONS: Record<Phase, string> = {
  pre: "before installing",
  post: "control plane and nodes",
  namespace: "namespaces",
};
const MARKS = { success: "✔", warning: "‼", error: "✖", skipped: "-" } as const;

function sectionsText(results: readonly CheckResult[], wide: boolean): string {
  const lines: string[] = [];
  for (const phase of ["pre", "post", "namespace"] as const) {
    const own = results.filter((r) => r.phase === phase);
    if (own.length === 0) continue;
    lines.push(
      ...(lines.length === 0 ? [] : [""]),
      SECTIONS[phase],
      "-".repeat(SECTIONS[phase].length),
    );
    for (const r of own) {
      if (r.result === "skipped" && !wide) continue;
      const why = r.result === "skipped" ? ` (left out: ${r.reason})` : "";
      lines.push(`${MARKS[r.result]} ${r.id} ${r.title}${why}`);
      for (const f of r.findings) lines.push(`    ${f.text}`, `    hint: ${f.hint}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** linkerd's shape, and what ours adds: id, object, fix. */
function checkDocument(results: readonly CheckResult[]): unknown {
  const phases = [...new Set(results.map((r) => r.phase))];
  return {
    apiVersion: API_VERSION,
    kind: "CheckResult",
    success: results.every((r) => r.result !== "error"),
    categories: phases.map((phase) => ({
      categoryName: SECTIONS[phase],
      checks: results.filter((r) => r.phase === phase).flatMap(checkEntries),
    })),
  };
}

function checkEntries({
  id,
  title: description,
  result,
  findings,
  reason,
}: CheckResult): unknown[] {
  if (findings.length === 0)
    return [{ id, description, result, ...(reason === undefined ? {} : { reason }) }];
  return findings.map((f) => ({
    id,
    description,
    result,
    error: f.text,
    hint: f.hint,
    fix: f.hint,
    ...(f.object === undefined ? {} : { object: f.object }),
  }));
}
