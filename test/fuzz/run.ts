// `node test/fuzz/run.ts --seconds N [--target name] [--seed n] [--input hex]`: a long run over all parsers.
// Prints one line per target; a finding prints its input, and the process ends with 1.
import { parseArgs } from "node:util";
import { DEFAULT_LIMITS, runOnce } from "./harness.ts";
import type { FuzzReport } from "./harness.ts";
import { superviseFuzz } from "./supervise.ts";
import { loadTarget, targetFiles } from "./targets.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    target: { type: "string", multiple: true, default: [] },
    seed: { type: "string" },
    input: { type: "string" },
    list: { type: "boolean", default: false },
  },
});

const seconds = Number(values.seconds);
const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
const files = targetFiles().filter(
  (file) => values.target.length === 0 || values.target.includes(file.name),
);
if (!(seconds > 0) || !Number.isInteger(seed) || files.length === 0) {
  console.error(
    "Usage: run.ts --seconds N [--target name]... [--seed n] [--input hex] [--list]\n" +
      `Targets: ${targetFiles()
        .map((file) => file.name)
        .join(", ")}`,
  );
  process.exit(2);
}
if (values.list) {
  for (const file of files) console.log(file.name);
  process.exit(0);
}

if (values.input !== undefined) {
  // Replay of one finding, in this thread so that a debugger sees it.
  for (const file of files)
    console.log(
      file.name,
      runOnce(await loadTarget(file.path), Buffer.from(values.input, "hex"), DEFAULT_LIMITS),
    );
  process.exit(0);
}

console.log(`seed ${seed}, ${files.length} targets, ${seconds} s in all`);
let findings = 0;
for (const file of files) {
  const report = await superviseFuzz({
    targetPath: file.path,
    seed,
    ms: (seconds * 1000) / files.length,
    limits: DEFAULT_LIMITS,
  });
  print(file.name, report);
  if (report.finding !== null) findings++;
}
process.exit(findings === 0 ? 0 : 1);

function print(name: string, report: FuzzReport): void {
  const outcomes = [...report.outcomes]
    .toSorted((a, b) => b[1] - a[1])
    .map(([word, times]) => `${word} ${times}`);
  const shown = outcomes.slice(0, 12).join(", ");
  const more = outcomes.length > 12 ? `, and ${outcomes.length - 12} more` : "";
  console.log(`${name}: ${report.runs} runs; ${shown}${more}`);
  if (report.finding === null) return;
  console.log(
    `  ${report.finding.what}: ${report.finding.detail}\n` +
      `  again: run.ts --target ${name} --input ${Buffer.from(report.finding.input).toString("hex")}`,
  );
}
