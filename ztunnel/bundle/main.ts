// The node proxy's process when it runs from its bundle (build.ts).
import { restartLean } from "../lean-start.ts";
import { run } from "../run.ts";

restartLean(import.meta.filename, process.env);
const worker = new URL("./worker.mjs", import.meta.url);
process.exitCode = await run(process.env, process.exit, worker);
// Anything still open (a client of the admin port) must not hold the process.
process.exit();
