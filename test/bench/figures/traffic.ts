// Bytes, requests, echoes and new connections on every path, round by round, so that a busy moment of the
// machine meets all paths alike; and what each proxy's process used meanwhile.
import type { Progress } from "../progress.ts";
import { runBulk, runLoad, type Load, type LoadOptions } from "../load-run.ts";
import { cpuSeconds } from "../proc-usage.ts";
import type { Results } from "../results.ts";
import type { Path, Stage } from "../stage.ts";
import { CAPTURED, YARDSTICK } from "../yardstick.ts";

export interface Rounds {
  readonly rounds: number;
  /** Of one measurement. */
  readonly seconds: number;
}

export const TRAFFIC = ["throughput", "http", "echo", "connect"] as const;
export type Traffic = (typeof TRAFFIC)[number];

interface Measurement {
  readonly of: Traffic;
  readonly figure: string;
  readonly load: Load | "bulk";
  readonly options: LoadOptions;
}

const STREAMS = [1, 8, 64];
const WARM_UP_SECONDS = 0.7;
/** New connections in flight: enough that no proxy waits for the load, and so few that each waits for its turns. */
const CONNECTS_IN_FLIGHT = [64, 8];

const streams = (n: number): string => (n === 1 ? "1 connection" : `${n} connections`);

const MEASUREMENTS: readonly Measurement[] = [
  ...STREAMS.map(
    (connections): Measurement => ({
      of: "throughput",
      figure: `throughput, ${streams(connections)}`,
      load: "bulk",
      options: { connections },
    }),
  ),
  ...STREAMS.map(
    (connections): Measurement => ({
      of: "http",
      figure: `HTTP 1 KiB, ${streams(connections)}`,
      load: "http",
      options: { connections },
    }),
  ),
  ...[1, 1024].map(
    (size): Measurement => ({
      of: "echo",
      figure: size === 1 ? "echo of 1 byte" : "echo of 1 KiB",
      load: "echo",
      options: { size },
    }),
  ),
  ...CONNECTS_IN_FLIGHT.map(
    (connections): Measurement => ({
      of: "connect",
      figure: `new connections, ${connections} in flight`,
      load: "connect",
      options: { connections },
    }),
  ),
];

export async function measureTraffic(
  stage: Stage,
  wanted: ReadonlySet<string>,
  { rounds, seconds }: Rounds,
  results: Results,
  progress: Progress,
): Promise<void> {
  const measurements = MEASUREMENTS.filter((m) => wanted.has(m.of));
  if (measurements.length === 0) return;
  const { paths } = stage;
  const unable = await warmUp(stage, measurements, results, progress);
  for (let round = 0; round < rounds; round++)
    for (const m of measurements)
      for (const path of rotated(paths, round)) {
        if (unable.has(`${m.figure}\n${path.name}`)) continue;
        progress.step(`round ${round + 1} of ${rounds}: ${m.figure}, ${path.name}`);
        if (m.load === "bulk") await measureBulk(m, path, seconds, results);
        else await measureLoad(m, m.load, path, seconds, results);
      }
}

/** @returns what the yardstick cannot do; our own paths must do everything */
async function warmUp(
  stage: Stage,
  measurements: readonly Measurement[],
  results: Results,
  progress: Progress,
): Promise<Set<string>> {
  const unable = new Set<string>();
  for (const path of stage.paths)
    for (const m of measurements) {
      progress.step(`warm-up: ${m.figure}, ${path.name}`);
      try {
        if (m.load === "bulk") await measureBulk(m, path, WARM_UP_SECONDS, null);
        else await measureLoad(m, m.load, path, WARM_UP_SECONDS, null);
      } catch (error) {
        const isOurs = path.name !== YARDSTICK && path.name !== CAPTURED;
        if (isOurs || stage.yardstick === null) throw error;
        unable.add(`${m.figure}\n${path.name}`);
        results.note(`${m.figure} (${path.name}): did not end; left out`);
        await stage.yardstick.restart();
      }
    }
  return unable;
}

/** @param results  null: only run it */
async function measureBulk(
  { figure, options }: Measurement,
  { name, from, to, target, carriers }: Path,
  seconds: number,
  results: Results | null,
): Promise<void> {
  const cpu: number[][] = [];
  const { connections = 1 } = options;
  const run = await runBulk(from, to, target, { connections, seconds }, () => {
    cpu.push(carriers.map((c) => cpuSeconds(c.pid())));
  });
  if (results === null) return;
  noteFailures(results, figure, name, run.failures);
  results.add(figure, name, "Gb/s", (run.bytes * 8) / 1e9 / run.seconds);
  for (const [i, { side }] of carriers.entries()) {
    const used = (cpu[1]?.[i] ?? 0) - (cpu[0]?.[i] ?? 0);
    results.add(`${figure}: CPU of the ${side}'s proxy`, name, "s/GB", used / (run.bytes / 1e9));
  }
}

/** @param results  null: only run it */
async function measureLoad(
  { of, figure, options }: Measurement,
  load: Load,
  { name, from, target, carriers }: Path,
  seconds: number,
  results: Results | null,
): Promise<void> {
  const before = carriers.map((c) => cpuSeconds(c.pid()));
  const run = await runLoad(from, load, target, { ...options, seconds });
  if (results === null) return;
  noteFailures(results, figure, name, run.failures);
  if (of !== "echo") results.add(figure, name, "/s", run.operations / run.seconds);
  results.add(`${figure}: p50`, name, "µs", run.p50);
  results.add(`${figure}: p90`, name, "µs", run.p90);
  results.add(`${figure}: p99`, name, "µs", run.p99);
  if (of === "echo") return;
  for (const [i, { side, pid }] of carriers.entries()) {
    const used = cpuSeconds(pid()) - (before[i] ?? 0);
    const us = (used * 1e6) / run.operations;
    results.add(`${figure}: CPU of the ${side}'s proxy`, name, "µs each", us);
  }
}

function noteFailures(results: Results, figure: string, path: string, failures: number): void {
  if (failures > 0) results.note(`${figure} (${path}): ${failures} connections failed`);
}

/** Each round begins with another path, so that none is always measured after the same one. */
function rotated<T>(items: readonly T[], by: number): T[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}
