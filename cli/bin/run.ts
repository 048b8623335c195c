// Entry point of `ambit`: a fast start, and the exit code of program.ts.
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { processIo } from "../io.ts";

// Reading stripped and compiled sources back makes a start three times as fast. In the user's own cache, never in
// a shared directory: what is read there is run. Not for the demo, which leaves nothing behind.
const isDemo = process.argv[2] === "demo" || process.env["AMBIT_SANDBOX_PID"] !== undefined;
const cacheHome = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
if (!isDemo) enableCompileCache(join(cacheHome, "ambit", "compile"));

// A press of Tab: answered before anything large is loaded, and never with an error.
if (process.argv[2] === "__complete") {
  const { completeNames } = await import("../completion/names.ts");
  const names = await completeNames(process.argv.slice(3), process.env);
  process.stdout.on("error", () => process.exit());
  process.stdout.write(names.map((n) => `${n}\n`).join(""), () => process.exit());
  await new Promise(() => undefined);
}

// stdout's handlers stand before oclif loads, which installs its own.
const io = processIo();
const { runAmbit } = await import("../program.ts");
// Deadlines and directory watches do not keep Node alive by themselves; this does until the answer is out.
const alive = setInterval(() => undefined, 2 ** 30);
process.exitCode = await runAmbit(process.argv.slice(2), io);
clearInterval(alive);
// What a command gave up or was interrupted in may still keep Node alive; what it said goes out first.
process.stdout.write("", () => process.stderr.write("", () => process.exit()));
