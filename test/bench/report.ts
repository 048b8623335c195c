// The run as a table for people and as JSON for programs.
import { availableParallelism, cpus, release } from "node:os";
import { barOf, judge, type Judgement } from "./bars.ts";
import type { Results, Row } from "./results.ts";
import { CAPTURED, YARDSTICK } from "./yardstick.ts";

const OURS = "hbone";
/** Columns, where a run has them; paths of single figures follow in lines of their own. */
const COLUMNS = ["direct", "plain in", "plain out", OURS, YARDSTICK, CAPTURED];

export interface Judged extends Judgement {
  readonly figure: string;
  readonly path: string;
}

export function judged(results: Results): Judged[] {
  return results.rows().flatMap((row) => {
    const bar = barOf(row.figure);
    if (bar === null || row.path === YARDSTICK) return [];
    if (bar.kind === "ratio" && row.path !== OURS) return [];
    const verdict = judge(bar, row.median, results.median(row.figure, YARDSTICK));
    return verdict === null ? [] : [{ figure: row.figure, path: row.path, ...verdict }];
  });
}

export function table(results: Results): string {
  const rows = results.rows();
  const columns = COLUMNS.filter((c) => rows.some((r) => r.path === c));
  const byFigure = Map.groupBy(rows, (r) => r.figure);
  const head = ["figure", "unit", ...columns, `${OURS} ÷ direct`];
  const peers = [YARDSTICK, CAPTURED].filter((c) => columns.includes(c));
  head.push(...peers.map((peer) => `${OURS} ÷ ${peer}`));
  const compared: string[][] = [];
  const single: string[][] = [];
  for (const [figure, of] of byFigure) {
    const at = (path: string): Row | undefined => of.find((r) => r.path === path);
    const others = of.filter((r) => !columns.includes(r.path));
    for (const r of others)
      single.push([r.path === "" ? figure : `${figure}, ${r.path}`, number(r.median), r.unit]);
    if (others.length === of.length) continue;
    const cells = columns.map((c) => number(at(c)?.median));
    const ratios = [ratio(at(OURS), at("direct"))];
    ratios.push(...peers.map((peer) => ratio(at(OURS), at(peer))));
    compared.push([figure, of[0]?.unit ?? "", ...cells, ...ratios]);
  }
  const parts = [];
  if (compared.length > 0) parts.push(aligned([head, ...compared]));
  if (single.length > 0) parts.push(aligned([["figure", "", "unit"], ...single]));
  const verdicts = judged(results).map((j) => [
    j.path === OURS || j.path === "" ? j.figure : `${j.figure}, ${j.path}`,
    number(j.measured),
    j.bar,
    j.passes ? "pass" : "MISS",
  ]);
  if (verdicts.length > 0) parts.push(aligned([["bar", "measured", "wanted", ""], ...verdicts]));
  if (results.notes.length > 0)
    parts.push(`Notes:\n${results.notes.map((n) => `  ${n}\n`).join("")}`);
  return parts.join("\n");
}

export function json(results: Results, run: object): string {
  const report = {
    apiVersion: "ambit/v1",
    kind: "BenchReport",
    machine: {
      cpu: cpus()[0]?.model ?? "",
      cores: availableParallelism(),
      kernel: release(),
      node: process.version,
    },
    run,
    figures: results.rows(),
    bars: judged(results),
    notes: results.notes,
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

function ratio(ours: Row | undefined, other: Row | undefined): string {
  return ours === undefined || other === undefined ? "" : number(ours.median / other.median);
}

/** Three digits that matter. */
function number(value: number | undefined): string {
  if (value === undefined) return "";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

function aligned(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((l) => (l[i] ?? "").length)));
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join("  ")
        .trimEnd()
        .concat("\n"),
    )
    .join("");
}
