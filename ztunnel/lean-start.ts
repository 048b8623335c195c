// Begins the process again the way that takes the least memory: from the bundle, without Node's TypeScript stripper
// (25 MB in every thread that meets a source file), and with an allocator and a heap set for a proxy that idles.
import { TRIM_FLAG } from "./trim-heap.ts";

/**
 * A small nursery for the main thread: garbage of the moment is better collected than kept. V8 reads it once, so it
 * goes on the command line; workers have limits of their own (state/spawn-worker.ts).
 */
const NODE_FLAGS = ["--max-semi-space-size=2", TRIM_FLAG];
/** glibc gives each thread an arena of its own, up to eight per core, and each keeps what it once had. */
const ALLOCATOR: Readonly<Record<string, string>> = { MALLOC_ARENA_MAX: "2" };
/** Set here, read here: a process replaces itself once. */
const HAS_RESTARTED = "AMBIT_RESTARTED";

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Goes on in the bundle; where none can be made (without development packages, or in a place that cannot be written
 * to), in the sources. Returns when it has, or without execve(2).
 * @param source  the file that was started
 */
export async function restartBundled(source: string, env: Env): Promise<void> {
  if (env[HAS_RESTARTED] !== undefined) return;
  let file = source;
  try {
    const { bundle } = await import("./bundle/build.ts");
    file = bundle();
  } catch (error) {
    console.error(
      `ztunnel runs from its sources and takes more memory: no bundle: ${String(error)}`,
    );
  }
  restartLean(file, env);
}

/** Begins `file` with the flags and variables above; returns when this process has them. */
export function restartLean(file: string, env: Env): void {
  const { execPath, execArgv, argv } = process;
  if (env[HAS_RESTARTED] !== undefined || process.execve === undefined) return;
  const flags = NODE_FLAGS.filter((flag) => !execArgv.includes(flag));
  process.execve(execPath, [execPath, ...flags, ...execArgv, file, ...argv.slice(2)], {
    ...(env as Record<string, string>),
    ...ALLOCATOR,
    [HAS_RESTARTED]: "1",
  });
}
