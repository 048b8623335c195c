// The node proxy's process when it is started from the sources: it goes on in the bundle made of them, or, where
// none can be made, as it is.
import { restartBundled } from "./lean-start.ts";

await restartBundled(import.meta.filename, process.env);
const { run } = await import("./run.ts");
process.exitCode = await run(
  process.env,
  process.exit,
  new URL("./proxy/worker.ts", import.meta.url),
);
// Anything still open (a client of the admin port) must not hold the process.
process.exit();
