// `make bench`: the figures of README.md in one run on this machine. A table on standard output, JSON beside it.
import { parseArgs } from "node:util";
import { requireSandbox } from "../../lab/sandbox.ts";
import { measureConnectionMemory, measureFreshTunnels } from "./figures/connections.ts";
import { measureIstiod } from "./figures/istiod.ts";
import { measureCniAdd, measurePodStart, measurePolicy } from "./figures/pods.ts";
import { measureTraffic, TRAFFIC } from "./figures/traffic.ts";
import { measureWorkloads } from "./figures/workloads.ts";
import type { Progress } from "./progress.ts";
import { DATA_PLANE } from "./report.ts";
import type { Results } from "./results.ts";
import { chosen, runBench } from "./run-bench.ts";
import { Stage } from "./stage.ts";

const ON_STAGE = ["memory", ...TRAFFIC, "fresh-tunnel", "pod-start", "cni-add", "policy"] as const;
const ALONE = ["workloads", "istiod"] as const;
const NAMES: readonly string[] = [...ON_STAGE, ...ALONE];

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    json: { type: "string", default: "build/bench.json" },
  },
});

const wanted = chosen(values.only, NAMES);
const rounds = Math.max(1, Number(values.rounds));
const seconds = Math.max(0.2, Number(values.seconds));

async function measureAll(results: Results, progress: Progress): Promise<void> {
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

process.exitCode = await runBench({
  names: NAMES,
  only: wanted,
  layout: DATA_PLANE,
  file: values.json,
  options: { rounds, seconds },
  enter: async () => {
    await requireSandbox();
    return null;
  },
  measure: measureAll,
});
// The sandbox's first process is this one's child in spirit: whatever still runs ends with it.
process.exit();
