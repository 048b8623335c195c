// A program and Node in one file, for hosts that have no Node (Node's single executable applications).
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { buildSync } from "esbuild";

/**
 * The same source and Node give the same bytes.
 * @param source      what runs; it may have no top-level await
 * @param executable  the Node to put it in
 */
export function singleExecutable(source: string, output: string, executable: string): void {
  mkdirSync(dirname(output), { recursive: true });
  const scratch = mkdtempSync(join(dirname(output), ".new-"));
  try {
    buildSync({
      entryPoints: [source],
      outfile: join(scratch, "main.cjs"),
      bundle: true,
      platform: "node",
      format: "cjs",
      target: "node26",
      minify: true,
      legalComments: "none",
      logLevel: "error",
    });
    // relative names: the path of the script becomes part of the result
    const config = {
      main: "main.cjs",
      output: "out",
      executable: resolve(executable),
      disableExperimentalSEAWarning: true,
      // differs from run to run, and saves nothing measurable for programs this small
      useCodeCache: false,
      // a runtime's NODE_OPTIONS must not reach the program
      execArgvExtension: "none",
    };
    writeFileSync(join(scratch, "config.json"), JSON.stringify(config));
    execFileSync(process.execPath, ["--build-sea", "config.json"], {
      cwd: scratch,
      stdio: ["ignore", "ignore", "inherit"],
    });
    chmodSync(join(scratch, "out"), 0o755);
    renameSync(join(scratch, "out"), output);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
