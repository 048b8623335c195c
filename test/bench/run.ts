// `make bench`: the figures of README.md in one run on this machine. A table on standard output, JSON beside it.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { requireSandbox } from "../../lab/sandbox.ts";
import { measureConnectionMemory, measureFreshTunnels } from "./figures/connections.ts";
import { measureIstiod } from "./figures/istiod.ts";
import { measureCniAdd, measurePodStart, measurePolicy } from "./figures/pods.ts";
import { measureTraffic, TRAFFIC } from "./figures/traffic.ts";
import { measureWorkloads } from "./figures/workloads.ts";
import { Progress } from "./progress.ts";
import { DATA_PLANE, json, table } from "./report.ts";
import { Results } from "./results.ts";
import { Stage } from "./stage.ts";

const ON_STAGE = ["memory", ...TRAFFIC, "fresh-tunnel", "pod-start", "cni-add", "policy"] as const;
const ALONE = ["workloads", "istiod"] as const;
const NAMES: readonly string[] = [...ON_STAGE, ...ALONE];
const EXIT_INTERRUPTED = 130;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    json: { type: "string", default: "build/bench.json" },
  },
});

class Interrupted extends Error {}

async function main(): Promise<number> {
  const wanted = new Set(values.only?.split(",") ?? NAMES);
  const unknown = [...wanted].filter((name) => !NAMES.includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`No figure ${unknown.join(", ")}; there are ${NAMES.join(", ")}\n`);
    return 2;
  }
  const rounds = Math.max(1, Number(values.rounds));
  const seconds = Math.max(0.2, Number(values.seconds));
  await requireSandbox();
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => reject(new Interrupted("interrupted")));
  });
  interrupted.catch(() => {});
  const results = new Results();
  const progress = new Progress();
  let code = 0;
  try {
    await Promise.race([measureAll(wanted, rounds, seconds, results, progress), interrupted]);
  } catch (error) {
    // What was measured is still worth printing.
    results.note(`Ended early: ${error instanceof Error ? error.message : String(error)}`);
    code = error instanceof Interrupted ? EXIT_INTERRUPTED : 1;
  }
  progress.end();
  process.stdout.write(table(results, DATA_PLANE));
  const file = resolve(values.json);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, json(results, DATA_PLANE, { rounds, seconds, only: [...wanted] }));
  return code;
}

async function measureAll(
  wanted: ReadonlySet<string>,
  rounds: number,
  seconds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  if (wanted.has("workloads")) {
    progress.phase("a ztunnel of its own: idle, 10 000 and 100 000 workloads");
    await measureWorkloads(rounds, results, progress);
  }
  if (wanted.has("istiod")) {
    progress.phase("istiod with 10 000 pods");
    await measureIstiod(rounds, results, progress);
  }
  if (!ON_STAGE.some((name) => wanted.has(name))) return;
  progress.phase("two nodes, the mesh and four pods");
  await using stage = await Stage.create(process.env["BENCH_YARDSTICK"] ?? null);
  if (wanted.has("memory")) {
    progress.phase("memory of idle connections");
    await measureConnectionMemory(stage, results, progress);
  }
  if (TRAFFIC.some((name) => wanted.has(name))) {
    progress.phase("traffic");
    await measureTraffic(stage, wanted, { rounds, seconds }, results, progress);
  }
  if (wanted.has("policy")) {
    progress.phase("policy");
    await measurePolicy(stage, rounds, results, progress);
  }
  if (wanted.has("pod-start")) {
    progress.phase("a pod's first byte");
    await measurePodStart(stage, rounds, results, progress);
  }
  if (wanted.has("cni-add")) {
    progress.phase("CNI ADD");
    await measureCniAdd(stage, rounds, results, progress);
  }
  if (wanted.has("fresh-tunnel")) {
    progress.phase("fresh tunnels");
    await measureFreshTunnels(stage, rounds, results, progress);
  }
}

process.exitCode = await main();
// The sandbox's first process is this one's child in spirit: whatever still runs ends with it.
process.exit();
