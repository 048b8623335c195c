// Builds the plugin as one executable, `build/istio-cni`: a bundle inside a copy of Node, so that
// hosts need no Node of their own. Run: node cni/plugin/build.ts [output]
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { build } from "esbuild";

const output = resolve(process.argv[2] ?? "build/istio-cni");
const scratch = mkdtempSync(join(tmpdir(), "ambit-cni-"));
try {
  mkdirSync(dirname(output), { recursive: true });
  const main = join(scratch, "plugin.cjs");
  await build({
    entryPoints: [join(import.meta.dirname, "main.ts")],
    outfile: main,
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node26",
    minify: true,
    legalComments: "none",
  });
  const config = join(scratch, "sea.json");
  writeFileSync(
    config,
    JSON.stringify({
      main,
      output,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      // a runtime's NODE_OPTIONS must not reach the plugin
      execArgvExtension: "none",
    }),
  );
  execFileSync(process.execPath, ["--build-sea", config], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  chmodSync(output, 0o755);
  console.log(`${output}: ${(statSync(output).size / 2 ** 20).toFixed(0)} MiB`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
