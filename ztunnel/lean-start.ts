// Keeps Node's TypeScript stripper out of a running proxy: it costs 25 MB in every thread that meets a
// file not yet in Node's compile cache. The first start fills the cache, then replaces the process.
import { flushCompileCache } from "node:module";
import { once } from "node:events";
import { Worker } from "node:worker_threads";

/** Counts how often this process has replaced itself; set here, read here. */
const STARTS = "AMBIT_STARTS";
/** Once to switch the cache on, once more when it had to be filled. */
const MAX_STARTS = 2;
/** Part of the sources, so as trustworthy as they are; a shared temporary folder would not be. */
const CACHE_DIR = new URL("../build/compile-cache", import.meta.url).pathname;
/**
 * A small nursery for the main thread: garbage of the moment is better collected than kept. V8 reads
 * it once, so it goes on the command line; workers have limits of their own (state/spawn-worker.ts).
 */
const NODE_FLAGS = ["--max-semi-space-size=2"];

type Env = Readonly<Record<string, string | undefined>>;

/** Begins again with the compile cache switched on, unless it is. Call first, before loading the program. */
export function restartWithCache(env: Env): void {
  if (env["NODE_COMPILE_CACHE"] === undefined) restart(env);
}

/**
 * Begins again if files of the program had to be stripped. Call when its modules are loaded and
 * nothing has been started.
 * @param workerModules  what worker threads will load, to be in the cache as well
 */
export async function restartIfStripped(env: Env, workerModules: readonly URL[]): Promise<void> {
  if (!hasStripper() || starts(env) >= MAX_STARTS) return;
  await fillCache(workerModules);
  restart(env);
}

function starts(env: Env): number {
  return Number(env[STARTS] ?? "0");
}

/** Does not return, except where processes cannot replace themselves: the program then runs as it is. */
function restart(env: Env): void {
  if (starts(env) >= MAX_STARTS || process.execve === undefined) return;
  const { execPath, execArgv, argv } = process;
  const flags = NODE_FLAGS.filter((flag) => !execArgv.includes(flag));
  process.execve(execPath, [execPath, ...flags, ...execArgv, ...argv.slice(1)], {
    ...(env as Record<string, string>),
    NODE_COMPILE_CACHE: env["NODE_COMPILE_CACHE"] ?? CACHE_DIR,
    [STARTS]: String(starts(env) + 1),
  });
}

/** Node's own list of what it has loaded of itself. */
function hasStripper(): boolean {
  const { moduleLoadList = [] } = process as { readonly moduleLoadList?: readonly string[] };
  return moduleLoadList.some((name) => name.includes("amaro"));
}

/** A thread that only loads the modules: each thread strips what it loads, and the cache is written when it ends. */
async function fillCache(workerModules: readonly URL[]): Promise<void> {
  const imports = workerModules.map((url) => `await import(${JSON.stringify(url.href)});`);
  const worker = new Worker(`(async () => { ${imports.join(" ")} process.exit() })()`, {
    eval: true,
  });
  worker.on("error", () => {}); // the real start will tell
  await once(worker, "exit");
  flushCompileCache();
}
