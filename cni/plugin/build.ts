// Builds the plugin as one executable, `build/istio-cni`, so that hosts need no Node of their own.
// Run: node cni/plugin/build.ts [output]
import { statSync } from "node:fs";
import { join, resolve } from "node:path";
import { singleExecutable } from "../../image/single-executable.ts";

const output = resolve(process.argv[2] ?? "build/istio-cni");
singleExecutable(join(import.meta.dirname, "main.ts"), output, process.execPath);
console.log(`${output}: ${(statSync(output).size / 2 ** 20).toFixed(0)} MiB`);
