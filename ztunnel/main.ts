// The node proxy's process: the environment goes in, the exit code comes out. The program is loaded late,
// so that it is loaded from the compile cache.
import { restartIfStripped, restartWithCache } from "./lean-start.ts";

restartWithCache(process.env);
const { run } = await import("./run.ts");
await restartIfStripped(process.env, [new URL("./proxy/worker.ts", import.meta.url)]);
process.exitCode = await run(process.env, process.exit);
// Anything still open (a client of the admin port) must not hold the process.
process.exit();
