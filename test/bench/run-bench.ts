// What every bench program does around its figures: picks those asked for, ends early on a signal or a fault with
// what was measured until then, prints the table and writes the JSON.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Progress } from "./progress.ts";
import { json, table, type Layout } from "./report.ts";
import { Results } from "./results.ts";

const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;

export interface Bench {
  /** Of all figures there are. */
  readonly names: readonly string[];
  readonly only: ReadonlySet<string>;
  readonly layout: Layout;
  /** Where the JSON goes. */
  readonly file: string;
  /** Kept in the JSON. */
  readonly options: object;
  /** Namespaces to measure in; returns why there are none, or `null`. */
  readonly enter: () => Promise<string | null>;
  readonly measure: (results: Results, progress: Progress) => Promise<void>;
}

/** @param text  `--only`: names with commas between them */
export function chosen(text: string | undefined, names: readonly string[]): ReadonlySet<string> {
  return new Set(text?.split(",") ?? names);
}

/** @returns the exit status */
export async function runBench(bench: Bench): Promise<number> {
  const unknown = [...bench.only].filter((name) => !bench.names.includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`No figure ${unknown.join(", ")}; there are ${bench.names.join(", ")}\n`);
    return EXIT_USAGE;
  }
  const why = await bench.enter();
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
    await Promise.race([bench.measure(results, progress), interrupted]);
  } catch (error) {
    // What was measured is still worth printing.
    results.note(`Ended early: ${error instanceof Error ? error.message : String(error)}`);
    code = error instanceof Interrupted ? EXIT_INTERRUPTED : 1;
  }
  progress.end();
  process.stdout.write(table(results, bench.layout));
  const file = resolve(bench.file);
  mkdirSync(dirname(file), { recursive: true });
  const options = { ...bench.options, only: [...bench.only] };
  writeFileSync(file, json(results, bench.layout, options));
  return code;
}

class Interrupted extends Error {}
