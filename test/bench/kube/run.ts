// `make bench-kube`: the figures of README.md on a real Kubernetes. A table on standard output, JSON beside it.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { enterKubeSandbox } from "../../kube/kube-sandbox.ts";
import { Progress } from "../progress.ts";
import { json, table } from "../report.ts";
import { Results } from "../results.ts";
import { ON_KUBERNETES } from "./bars.ts";
import { measureApiCalls, measureAtRest } from "./figures/api-calls.ts";
import { measureEnrolment } from "./figures/enrolment.ts";
import { measureIstiod } from "./figures/istiod.ts";
import { measurePodStart } from "./figures/pod-start.ts";
import { measurePolicy } from "./figures/policy.ts";
import { KubeStage } from "./stage.ts";

const ON_STAGE = ["pod-start", "api-calls", "rest", "policy", "enrolment"] as const;
const NAMES: readonly string[] = [...ON_STAGE, "istiod"];
const EXIT_INTERRUPTED = 130;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "5" },
    changes: { type: "string", default: "30" },
    pods: { type: "string", default: "10000" },
    json: { type: "string", default: "build/bench-kube.json" },
  },
});

interface Wanted {
  readonly only: ReadonlySet<string>;
  readonly rounds: number;
  readonly changes: number;
  /** Sizes of istiod's cluster. */
  readonly pods: readonly number[];
}

class Interrupted extends Error {}

async function main(): Promise<number> {
  const only = new Set(values.only?.split(",") ?? NAMES);
  const unknown = [...only].filter((name) => !NAMES.includes(name));
  const count = (text: string): number => Math.max(1, Math.trunc(Number(text)));
  const wanted: Wanted = {
    only,
    rounds: count(values.rounds),
    changes: count(values.changes),
    pods: values.pods.split(",").map(count),
  };
  if (unknown.length > 0) {
    process.stderr.write(`No figure ${unknown.join(", ")}; there are ${NAMES.join(", ")}\n`);
    return 2;
  }
  const why = await enterKubeSandbox();
  if (why !== null) {
    process.stderr.write(`${why}\n`);
    return 1;
  }
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => reject(new Interrupted("interrupted")));
  });
  interrupted.catch(() => {});
  const results = new Results();
  const progress = new Progress();
  let code = 0;
  try {
    await Promise.race([measureAll(wanted, results, progress), interrupted]);
  } catch (error) {
    // What was measured is still worth printing.
    results.note(`Ended early: ${error instanceof Error ? error.message : String(error)}`);
    code = error instanceof Interrupted ? EXIT_INTERRUPTED : 1;
  }
  progress.end();
  process.stdout.write(table(results, ON_KUBERNETES));
  const file = resolve(values.json);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, json(results, ON_KUBERNETES, { ...wanted, only: [...only] }));
  return code;
}

async function measureAll(wanted: Wanted, results: Results, progress: Progress): Promise<void> {
  if (ON_STAGE.some((name) => wanted.only.has(name)))
    await measureOnStage(wanted, results, progress);
  if (!wanted.only.has("istiod")) return;
  for (const pods of wanted.pods) {
    progress.phase(`istiod with ${pods} pods`);
    await measureIstiod(pods, wanted.rounds, results, progress);
  }
}

async function measureOnStage(wanted: Wanted, results: Results, progress: Progress): Promise<void> {
  const { only, rounds, changes } = wanted;
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

process.exitCode = await main();
// The sandbox ends with this process: whatever still runs goes with it.
process.exit();
