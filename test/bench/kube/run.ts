// `make bench-kube`: the figures of README.md on a real Kubernetes. A table on standard output, JSON beside it.
import { parseArgs } from "node:util";
import { enterKubeSandbox } from "../../kube/kube-sandbox.ts";
import type { Progress } from "../progress.ts";
import type { Results } from "../results.ts";
import { chosen, runBench } from "../run-bench.ts";
import { ON_KUBERNETES } from "./bars.ts";
import { measureApiCalls, measureAtRest } from "./figures/api-calls.ts";
import { measureEnrolment } from "./figures/enrolment.ts";
import { measureIstiod } from "./figures/istiod.ts";
import { measurePodStart } from "./figures/pod-start.ts";
import { measurePolicy } from "./figures/policy.ts";
import { KubeStage } from "./stage.ts";

const ON_STAGE = ["pod-start", "api-calls", "rest", "policy", "enrolment"] as const;
const NAMES: readonly string[] = [...ON_STAGE, "istiod"];

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "5" },
    changes: { type: "string", default: "30" },
    pods: { type: "string", default: "10000" },
    json: { type: "string", default: "build/bench-kube.json" },
  },
});

const count = (text: string): number => Math.max(1, Math.trunc(Number(text)));
const only = chosen(values.only, NAMES);
const rounds = count(values.rounds);
const changes = count(values.changes);
/** Sizes of istiod's cluster. */
const sizes = values.pods.split(",").map(count);

async function measureAll(results: Results, progress: Progress): Promise<void> {
  if (ON_STAGE.some((name) => only.has(name))) await measureOnStage(results, progress);
  if (!only.has("istiod")) return;
  for (const pods of sizes) {
    progress.phase(`istiod with ${pods} pods`);
    await measureIstiod(pods, rounds, results, progress);
  }
}

async function measureOnStage(results: Results, progress: Progress): Promise<void> {
  progress.phase("two nodes and the mesh");
  await using stage = await KubeStage.create();
  if (only.has("pod-start")) {
    progress.phase("a pod's first byte");
    await measurePodStart(stage, rounds, results, progress);
  }
  if (only.has("api-calls")) {
    progress.phase("API calls for each pod");
    await measureApiCalls(stage, results, progress);
  }
  if (only.has("rest")) {
    progress.phase("requests at rest");
    await measureAtRest(stage, results, progress);
  }
  if (only.has("policy")) {
    progress.phase("policy");
    await measurePolicy(stage, changes, results, progress);
  }
  if (only.has("enrolment")) {
    progress.phase("label to the last pod");
    await measureEnrolment(stage, rounds, results, progress);
  }
}

process.exitCode = await runBench({
  names: NAMES,
  only,
  layout: ON_KUBERNETES,
  file: values.json,
  options: { rounds, changes, pods: sizes },
  enter: () => enterKubeSandbox(),
  measure: measureAll,
});
// The sandbox ends with this process: whatever still runs goes with it.
process.exit();
