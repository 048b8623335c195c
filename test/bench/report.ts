// The run as a table for people and as JSON for programs.
import { availableParallelism, cpus, release } from "node:os";
import { barOf, DATA_PLANE_BARS, judge, type Bars, type Judgement } from "./bars.ts";
import type { Results, Row } from "./results.ts";
import { CAPTURED, YARDSTICK } from "./yardstick.ts";

/** Which paths a table shows side by side, and what ours is compared with. */
export interface Layout {
  /** Where a run has them; paths of single figures follow in lines of their own. */
  readonly columns: readonly string[];
  readonly ours: string;
  /** Ours is divided by each that a run has. */
  readonly against: readonly string[];
  /** What bars that are ratios compare with. */
  readonly yardstick: string;
  readonly bars: Bars;
}

const OURS = "hbone";
export const DATA_PLANE: Layout = {
  columns: ["direct", "plain in", "plain out", OURS, YARDSTICK, CAPTURED],
  ours: OURS,
  against: ["direct", YARDSTICK, CAPTURED],
  yardstick: YARDSTICK,
  bars: DATA_PLANE_BARS,
};

export interface Judged extends Judgement {
  readonly figure: string;
  readonly path: string;
}

export function judged(results: Results, layout: Layout): Judged[] {
  const { ours, yardstick, bars } = layout;
  return results.rows().flatMap((row) => {
    const bar = barOf(row.figure, bars);
    if (bar === null || row.path === yardstick) return [];
    if (bar.kind === "ratio" && row.path !== ours) return [];
    const verdict = judge(bar, row.median, results.median(row.figure, yardstick));
    return verdict === null ? [] : [{ figure: row.figure, path: row.path, ...verdict }];
  });
}

export function table(results: Results, layout: Layout): string {
  const { ours } = layout;
  const rows = results.rows();
  const columns = layout.columns.filter((c) => rows.some((r) => r.path === c));
  const byFigure = Map.groupBy(rows, (r) => r.figure);
  const peers = layout.against.filter((c) => columns.includes(c));
  const head = ["figure", "unit", ...columns, ...peers.map((peer) => `${ours} ÷ ${peer}`)];
  const compared: string[][] = [];
  const single: string[][] = [];
  for (const [figure, of] of byFigure) {
    const at = (path: string): Row | undefined => of.find((r) => r.path === path);
    const others = of.filter((r) => !columns.includes(r.path));
    for (const r of others)
      single.push([r.path === "" ? figure : `${figure}, ${r.path}`, number(r.median), r.unit]);
    if (others.length === of.length) continue;
    const cells = columns.map((c) => number(at(c)?.median));
    const ratios = peers.map((peer) => ratio(at(ours), at(peer)));
    compared.push([figure, of[0]?.unit ?? "", ...cells, ...ratios]);
  }
  const parts = [];
  if (compared.length > 0) parts.push(aligned([head, ...compared]));
  if (single.length > 0) parts.push(aligned([["figure", "", "unit"], ...single]));
  const verdicts = judged(results, layout).map((j) => [
    j.path === ours || j.path === "" ? j.figure : `${j.figure}, ${j.path}`,
    number(j.measured),
    j.bar,
    j.passes ? "pass" : "MISS",
  ]);
  if (verdicts.length > 0) parts.push(aligned([["bar", "measured", "wanted", ""], ...verdicts]));
  if (results.notes.length > 0)
    parts.push(`Notes:\n${results.notes.map((n) => `  ${n}\n`).join("")}`);
  return parts.join("\n");
}

export function json(results: Results, layout: Layout, run: object): string {
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
    bars: judged(results, layout),
    notes: results.notes,
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

function ratio(ours: Row | undefined, other: Row | undefined): string {
  if (ours === undefined || other === undefined || other.median === 0) return "";
  return number(ours.median / other.median);
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
