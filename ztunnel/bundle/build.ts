// The node proxy's bundle: made from the sources whenever they have changed (image/bundle.ts).
// Run: node ztunnel/bundle/build.ts [directory]
import { join, relative } from "node:path";
import { bundleSources } from "../../image/bundle.ts";

const DEFAULT_DIR = join(import.meta.dirname, "../../build/ztunnel");

/** The process and the workers it starts. */
export const ENTRY_POINTS = { main: "ztunnel/bundle/main.ts", worker: "ztunnel/proxy/worker.ts" };

/** Brings the bundle up to date; returns the file to run. */
export function bundle(dir: string = DEFAULT_DIR): string {
  return bundleSources(dir, ENTRY_POINTS);
}

if (import.meta.main) console.log(relative(process.cwd(), bundle(process.argv[2])));
